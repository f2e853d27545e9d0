# SPDX-License-Identifier: GPL-2.0-or-later
"""The physical backup program without a server: when a backup begins, what it stands for, and what it will take."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import chain, physical, space
from slapos.recipe.erp5.mariadb.dump_file import Written
from slapos.recipe.erp5.mariadb.physical import _Made
from slapos.recipe.erp5.mariadb.xbstream import Contents
from tests.unit.mariadb import partition

CHAIN = partition.chain(1, 2)
LAST = datetime(2026, 11, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        (LAST + timedelta(seconds=0.3), LAST + timedelta(seconds=1)),
        (LAST - timedelta(seconds=1.5), LAST + timedelta(seconds=1)),  # the one before was moved as well
        (LAST + timedelta(seconds=1), LAST + timedelta(seconds=1)),
        (LAST + timedelta(days=1), LAST + timedelta(days=1)),
        (LAST - timedelta(days=1), LAST - timedelta(days=1)),  # a clock was wrong, then or now
    ],
)
def test_no_two_begin_in_one_second(monkeypatch, now, start):
    monkeypatch.setattr(times, "now", lambda: now)
    assert physical._start(CHAIN) == start


def test_the_first_one_begins_now(monkeypatch):
    monkeypatch.setattr(times, "now", lambda: LAST)
    assert physical._start(()) == LAST


def test_a_copied_data_directory_is_another_one(tmp_path):
    config = partition.config(tmp_path)
    tables = config.data_directory / "mysql"
    tables.mkdir()
    for name in ("user.frm", "db.frm"):
        (tables / name).touch()
    identity = physical._identity(config)
    (tables / "new.frm").touch()
    config.data_directory.rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", config.data_directory)  # with the files' times
    assert physical._identity(config) != identity
    shutil.rmtree(config.data_directory)
    (tmp_path / "old").rename(config.data_directory)
    assert physical._identity(config) == identity


def contents(**information: str) -> Contents:
    return Contents(frozenset({"e/a.ibd"}), {f"xtrabackup_{name}": text.encode() for name, text in information.items()})


@pytest.mark.parametrize("text", ["binlog.000002\t667\t0-3-43,1-4-5\n", "binlog.000002\t667\t0-3-43,\n1-4-5"])
def test_the_position_of_several_domains(text):
    assert physical.gtid(contents(binlog_info=text)) == "0-3-43,1-4-5"


@pytest.mark.parametrize("text", ["binlog.000002\t667\t\n", "binlog.000002\t667", ""])
def test_an_empty_position_is_refused(text):
    with pytest.raises(BackupError) as caught:
        physical.gtid(contents(binlog_info=text))
    assert str(caught.value) == (
        "the backup has no GTID position, without which no replica can use it: is the binary log on?"
    )


def made(checkpoints: str) -> _Made:
    return _Made(Written(1, "", 77, b"", b""), contents(checkpoints=checkpoints), b"")


def test_what_an_incremental_says():
    said = "backup_type = incremental\nfrom_lsn = 3000\nto_lsn = 3500\nlast_lsn = 3600\n"
    facts = physical._facts(made(said), CHAIN[2], "D")
    assert facts == partition.Physical(CHAIN[2].name, 3000, 3500, plain_size=77, tablespaces=1, database="D")


@pytest.mark.parametrize(
    ("said", "base", "sentence"),
    [
        ("from_lsn = 1\nto_lsn = 2", None, "the stream begins at 1, expected 0, as for a full backup: run this again"),
        (
            "from_lsn = 0\nto_lsn = 2",
            CHAIN[0],
            f"the stream begins at 0, expected where {CHAIN[0].name} ends: run this again",
        ),
        ("from_lsn = 0", None, "the stream does not say what it covers: 'to_lsn': is this mariadb-backup's?"),
    ],
)
def test_a_stream_that_does_not_continue_its_base_is_refused(said, base, sentence):
    with pytest.raises(BackupError) as caught:
        physical._facts(made(said), base, "D")
    assert str(caught.value) == sentence


def test_what_the_next_one_takes(tmp_path, monkeypatch):
    config = partition.config(tmp_path)
    monkeypatch.setattr(space, "tables_size", lambda folder: 300 << 20)
    full, one, two = CHAIN
    estimates = [
        physical._needed(config, entries, chain.Next(base))
        for entries, base in (((), None), ((full,), full), (CHAIN, two), (CHAIN, None))
    ]
    expected = [space.needed(entries, 300 << 20) for entries in ((), (full,), (one, two), (full,))]
    assert estimates == expected
