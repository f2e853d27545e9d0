# SPDX-License-Identifier: GPL-2.0-or-later
"""What is rotated, which reports belong to which logs, and which are too old."""

import pytest

from slapos.recipe.erp5 import nginx
from slapos.recipe.erp5.mariadb import digest, logs
from tests.unit.mariadb import partition


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path)


def test_the_settings_of_logrotate(config):
    folder = config.path("var", "log")
    assert logs.logrotate_settings(config).splitlines()[:6] == [
        f'"{folder}/mariadb-error.log"',
        f'"{folder}/mariadb-slow.log"',
        f'"{folder}/nginx-access.log"',
        f'"{folder}/nginx-error.log" {{',
        "  rotate 30",
        "  dateext",
    ]


def test_reports_by_their_logs(config):
    folder = config.slow_log.parent
    for name in (
        "mariadb-slow.log",
        "mariadb-slow.log-20261122-000000",
        "mariadb-slow.log-20261121-000000.zst",
        "mariadb-slow.log-20261120-000000.zst.tmp",
        "mariadb-slow.log-x",
        "mariadb-error.log-20261122-000000",
    ):
        (folder / name).touch()
    assert digest.rotated(config) == {
        "slow-queries-20261122-000000.txt": folder / "mariadb-slow.log-20261122-000000",
        "slow-queries-20261121-000000.txt": folder / "mariadb-slow.log-20261121-000000.zst",
    }


def test_the_newest_reports_stay(monkeypatch):
    monkeypatch.setattr(digest, "KEPT", 2)
    names = {f"slow-queries-2026112{day}-000000.txt" for day in range(4)}
    assert digest.old(names | {"notes.txt"}) == ["slow-queries-20261120-000000.txt", "slow-queries-20261121-000000.txt"]
    assert digest.old({"slow-queries-20261120-000000.txt"}) == []


@pytest.mark.parametrize("content", ["", "x", "999999999", "-1", "1"])
def test_a_pid_file_that_names_no_nginx(tmp_path, content):
    assert nginx.master(tmp_path / "none") is None
    (tmp_path / "pid").write_text(content)
    assert nginx.master(tmp_path / "pid") is None
