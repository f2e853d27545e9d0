# SPDX-License-Identifier: GPL-2.0-or-later
"""Large logs are put aside, their processes told, and old ones compressed and removed."""

import contextlib
import gzip
import os
import sqlite3

import pytest

from slapos.recipe.erp5.neo import logs
from tests.unit.neo import partition


@pytest.fixture
def config(tmp_path):
    return partition.node(tmp_path)


def names(config):
    return sorted(path.name for path in config.path("var/log").iterdir())


def test_a_small_log_stays(config):
    config.log("master").write_text("short")
    assert logs.rotate_all(config) == 0
    assert names(config) == ["neo-master.log"]


def test_a_large_log_is_put_aside_and_compressed_when_nobody_has_it_open(config):
    config.log("master").write_text("text" * 10)
    logs.rotate(config, "master", 10)
    (name,) = names(config)
    assert name.startswith("neo-master.log-") and name.endswith("Z.gz")
    with gzip.open(config.path("var/log", name), "rt") as file:
        assert file.read() == "text" * 10


def test_a_process_is_told_and_what_it_has_open_is_left_alone(config, monkeypatch):
    told = []
    monkeypatch.setattr(logs, "_pid", lambda config, name: os.getpid())
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    with open(config.log("storage-0"), "w") as file:
        file.write("text" * 10)
        file.flush()
        logs.rotate(config, "storage-0", 10)
        assert told == [(os.getpid(), logs.REOPEN)]
        (name,) = names(config)
        assert not name.endswith(".gz")
    logs.rotate(config, "storage-0", 10)
    assert names(config) == [f"{name}.gz"] and len(told) == 1


def test_a_process_that_has_not_opened_its_log_is_not_told_as_that_would_kill_it(config, monkeypatch):
    monkeypatch.setattr(logs, "_pid", lambda config, name: os.getpid())
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("told"))
    config.log("master").write_text("text" * 10)
    logs.rotate(config, "master", 10)


@pytest.mark.parametrize("broken", [b"no database" * 100, b"cut", None])
def test_a_log_that_cannot_be_opened_is_put_aside_before_its_process_starts(config, broken):
    log = config.log("master")
    with contextlib.closing(sqlite3.connect(log)) as connection:
        connection.execute("CREATE TABLE log (text TEXT)")
        connection.executemany("INSERT INTO log VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    content = log.read_bytes()
    logs.mend(log)
    assert names(config) == ["neo-master.log"]
    log.write_bytes(broken if broken else content[:8192] + b"\xff" * 4096 + content[12288:])
    logs.mend(log)
    (name,) = names(config)
    assert name.startswith("neo-master.log-") and name.endswith("Z")


def test_a_log_that_is_not_there_or_empty_is_none_to_mend(config):
    logs.mend(config.log("master"))
    config.log("master").touch()
    logs.mend(config.log("master"))
    assert names(config) == ["neo-master.log"]


def test_the_oldest_go_and_files_of_other_people_stay(config):
    folder = config.path("var/log")
    for day in range(1, 13):
        (folder / f"neo-master.log-202611{day:02}T000000Z.gz").write_text("")
    (folder / "neo-master.log-of-mine").write_text("")
    logs.rotate(config, "master")
    kept = [f"neo-master.log-202611{day:02}T000000Z.gz" for day in range(3, 13)]
    assert names(config) == sorted([*kept, "neo-master.log-of-mine"])
