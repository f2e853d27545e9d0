# SPDX-License-Identifier: GPL-2.0-or-later
"""The backup program without a server: what it says on the way, and what it asks mariadb-dump for."""

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import backup, space
from tests.unit.mariadb import partition


def lines(capsys) -> list[str]:
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def test_progress_now_and_then(monkeypatch, capsys):
    clock = iter([100.0, 105.0, 110.0, 111.0, 130.0])
    monkeypatch.setattr(backup.time, "monotonic", lambda: next(clock))
    progress = backup.Progress()
    for megabytes in (1, 20, 21, 60):
        progress(megabytes << 20, megabytes << 18)
    assert lines(capsys) == [
        "dumped 20.0 MiB, 2.0 MiB/s, compressed to 5.0 MiB",
        "dumped 60.0 MiB, 2.0 MiB/s, compressed to 15.0 MiB",
    ]


@pytest.fixture
def config(tmp_path):
    config = partition.config(tmp_path)
    config.dumps.mkdir(parents=True)
    return config


def test_there_has_to_be_room_for_a_quarter_more_than_last_time(monkeypatch, capsys, config):
    entries = (partition.Entry("20261101T000000Z.sql.zst", "logical", 80 << 20, "0" * 64, "", "", "", ""),)
    monkeypatch.setattr(space, "free", lambda folder: 100 << 20)
    backup.check_space(config, entries)
    assert lines(capsys) == ["the backup takes about 100.0 MiB, 100.0 MiB are free"]
    monkeypatch.setattr(space, "free", lambda folder: 99 << 20)
    with pytest.raises(BackupError) as caught:
        backup.check_space(config, entries)
    assert str(caught.value) == (
        f"99.0 MiB are free in {config.dumps}, the next backup takes about 100.0 MiB: "
        "free disk space or lower backup.logical.retention-days"
    )


def test_no_option_carries_a_secret_or_writes_to_the_server():
    allowed = {
        *("--all-databases", "--single-transaction", "--gtid", "--master-data=1", "--routines", "--events"),
        *("--triggers", "--hex-blob", "--flush-privileges", "--default-character-set=utf8mb4"),
        "--max-allowed-packet=1G",
    }
    assert set(backup.OPTIONS) == allowed
