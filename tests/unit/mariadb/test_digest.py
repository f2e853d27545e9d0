# SPDX-License-Identifier: GPL-2.0-or-later
"""Which slow-query reports are made when some logs cannot be read, with shell scripts for zstd and pt-query-digest."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import CommandError
from slapos.recipe.erp5.mariadb import digest
from slapos.recipe.erp5.mariadb.config import Config
from tests.unit.mariadb import partition

UNPACK = """for last; do :; done; grep -q broken "$last" && { echo "bad data" >&2; exit 1; }; cat "$last" """


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    subprocess.run(["/bin/sh", "-n", path], check=True)


@pytest.fixture
def config(tmp_path) -> Config:
    program(tmp_path / "tools/bin/zstd", UNPACK)
    program(tmp_path / "tools/bin/pt-query-digest", "echo report; cat")
    config = partition.config(tmp_path / "p")
    tools = str(tmp_path / "tools")
    software = dataclasses.replace(config.software, zstd=tools, percona_toolkit=tools)
    return dataclasses.replace(config, software=software)


def log(config: Config, day: int, content: str) -> Path:
    path = config.slow_log.parent / f"{config.slow_log.name}-202611{day:02}-000000"
    path.write_text(content)
    return path


def reports(config: Config) -> dict[str, str]:
    return {path.name: path.read_text() for path in digest.folder(config).iterdir()}


def test_logs_that_cannot_be_read_keep_no_other_from_its_report(config, capsys):
    first, _, third, _ = (log(config, day, text) for day, text in enumerate(("broken", "b", "broken", "d"), 1))
    with pytest.raises(CommandError) as raised:
        digest.make_pending(config)
    assert str(raised.value) == "; ".join(
        f"cannot sum up {path}: zstd ended with status 1: bad data" for path in (first, third)
    )
    made = ["slow-queries-20261102-000000.txt", "slow-queries-20261104-000000.txt"]
    assert reports(config) == dict(zip(made, ("report\nb", "report\nd"), strict=True))
    assert capsys.readouterr().err.strip().endswith(f" slow-query reports made: {', '.join(made)}")
    first.write_text("a")
    third.unlink()
    digest.make_pending(config)
    assert sorted(reports(config)) == ["slow-queries-20261101-000000.txt", *made]


def test_old_reports_go_although_a_log_cannot_be_read(config, monkeypatch):
    monkeypatch.setattr(digest, "KEPT", 1)
    for day, text in enumerate(("a", "b", "broken"), 1):
        log(config, day, text)
    with pytest.raises(CommandError):
        digest.make_pending(config)
    assert list(reports(config)) == ["slow-queries-20261102-000000.txt"]


def test_a_missing_program_is_said_once(config, capsys):
    for day in (1, 2):
        log(config, day, "x")
    software = dataclasses.replace(config.software, percona_toolkit="/none")
    with pytest.raises(CommandError) as raised:
        digest.make_pending(dataclasses.replace(config, software=software))
    assert str(raised.value) == (
        "/none/bin/pt-query-digest cannot be started: [Errno 2] No such file or directory: '/none/bin/pt-query-digest'"
    )
    assert (reports(config), capsys.readouterr().err) == ({}, "")
