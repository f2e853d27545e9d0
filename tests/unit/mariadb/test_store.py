# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of backups, killed at every step: what was good stays listed and whole, and nothing else is left over."""

import contextlib
import dataclasses
import itertools
import os
from datetime import UTC, datetime

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import manifest, offer, store
from tests.unit.mariadb import partition

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path)


def grow(config, entry):
    """A complete file in the partial folder."""
    path = store.begin(store.logical(config)) / entry.name
    path.write_bytes(partition.content(entry))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_consistent(config, listed):
    """Files, list and offer all say the same, and no left-over is anywhere."""
    wanted = sorted([*(entry.name for entry in listed), "manifest.json"])
    assert manifest.load(config.dumps) == manifest.load(config.offered) == tuple(listed)
    assert names(config.dumps) == names(config.offered) == wanted
    for entry in listed:
        assert (config.offered / entry.name).stat().st_size == entry.size
    assert names(config.dumps.parent) == ["mariadb-full", "offered"]


def test_the_first_backup(config):
    assert store.settle(store.logical(config)) == ()
    grow(config, partition.entry(1))
    assert store.add(store.logical(config), partition.entry(1)) == partition.entry(1)
    assert store.expire(store.logical(config), NOW) == ()
    assert_consistent(config, [partition.entry(1)])


def test_a_name_that_is_taken_gets_a_number(config):
    (one,) = partition.add_backups(config, 1)
    for number in (1, 2):
        grow(config, one)
        added = store.add(store.logical(config), one)
        assert added == dataclasses.replace(one, name=f"20261101T000000Z-{number}.sql.zst")
    store.expire(store.logical(config), datetime(2026, 11, 2, tzinfo=UTC))
    assert len(manifest.load(config.offered)) == 3


def test_retention_removes_files_from_both_folders(config):
    entries = partition.add_backups(config, 20)
    offer.update(config)
    assert store.expire(store.logical(config), NOW) == entries[:14]
    assert_consistent(config, entries[14:])


def test_files_that_are_not_listed_are_left_alone(config):
    entries = partition.add_backups(config, 20)
    for name in ("20200101T000000Z.sql.zst", "notes.txt"):
        (config.dumps / name).write_text("mine")
    store.settle(store.logical(config))
    store.expire(store.logical(config), NOW)
    kept = [entry.name for entry in entries[14:]]
    assert names(config.dumps) == ["20200101T000000Z.sql.zst", *kept, "manifest.json", "notes.txt"]
    assert manifest.load(config.offered) == entries[14:]


def test_listed_files_that_are_gone_or_changed_are_forgotten(config, capsys):
    one, two, three = partition.add_backups(config, 3)
    offer.update(config)
    (config.dumps / one.name).unlink()
    os.truncate(config.dumps / two.name, 5)
    assert store.settle(store.logical(config)) == (three,)
    assert manifest.load(config.dumps) == manifest.load(config.offered) == (three,)
    assert names(config.offered) == [three.name, "manifest.json"]
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"{config.dumps}/{one.name} is listed but gone: it is listed no longer",
        f"{config.dumps}/{two.name} has 5 bytes, not the 102 that were written: it is listed no longer",
    ]


def test_left_overs_of_a_killed_dump_go(config):
    (one,) = partition.add_backups(config, 1)
    path = grow(config, partition.entry(2))
    (path.parent / "other").write_bytes(b"x")
    (config.dumps / ".manifest.json.abc").write_bytes(b"x")
    store.settle(store.logical(config))
    assert_consistent(config, [one])


def test_a_list_that_cannot_be_used_removes_nothing(config):
    (one,) = partition.add_backups(config, 1)
    (config.dumps / "manifest.json").write_text("{")
    with pytest.raises(BackupError):
        store.settle(store.logical(config))
    store.discard(store.logical(config))
    assert names(config.dumps) == [one.name, "manifest.json"]


def test_a_second_one_is_busy_at_once(config):
    with (
        store.lock(config),
        pytest.raises(Busy) as caught,
        store.lock(config),
    ):
        raise AssertionError
    assert str(caught.value) == (
        "another backup of test is running: wait for its end, and run this again if you still need to"
    )
    with store.lock(config):
        pass


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it, and nothing is cleaned up."""


@contextlib.contextmanager
def killed_at(monkeypatch, step, after):
    """End the work at its `step`-th change of the disk, before or after the change."""
    counter = itertools.count()

    def wrap(function):
        def wrapper(*arguments, **options):
            now = next(counter) == step
            if now and not after:
                raise Killed
            try:
                return function(*arguments, **options)
            finally:
                if now:
                    raise Killed

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("link", "unlink", "rename", "mkdir", "rmdir"):
            patch.setattr(os, name, wrap(getattr(os, name)))
        patch.setattr(process, "write_atomically", wrap(process.write_atomically))
        try:
            yield
        except Killed:
            return
    raise Done


class Done(Exception):
    """The work has no such step: it went to its end."""


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step_the_next_run_sets_all_right(tmp_path, monkeypatch, after):
    outcomes = set()
    for step in range(100):
        config = partition.config(tmp_path / str(step))
        old = partition.add_backups(config, 2)
        offer.update(config)
        new = partition.entry(22)
        try:
            with killed_at(monkeypatch, step, after):
                store.settle(store.logical(config))
                grow(config, new)
                store.add(store.logical(config), new)
                store.expire(store.logical(config), NOW)
        except Done:
            break
        offered = manifest.load(config.offered)
        for entry in offered:  # at the very moment of the kill, what is offered is whole
            assert (config.offered / entry.name).read_bytes() == partition.content(entry)
        listed = store.settle(store.logical(config))
        assert listed in (old, (*old, new), (new,), (old[1], new))
        assert_consistent(config, listed)
        outcomes.add(len(listed))
    assert step > 8
    assert outcomes >= {1, 2, 3}
    assert_consistent(config, [new])


# ---- chains


def test_retention_takes_a_chain_whole(config):
    old = partition.add_chain(config, 1, 2)
    new = partition.add_chain(config, 8, 1)
    where = store.physical(config)
    assert store.expire(where, datetime(2026, 11, 10, tzinfo=UTC)) == ()
    assert set(store.expire(where, NOW)) == set(old)
    assert manifest.load(config.physical_backups) == manifest.load(config.offered) == new
    assert names(config.physical_backups) == names(config.offered) == [*(entry.name for entry in new), "manifest.json"]


def test_what_continues_a_backup_that_is_gone_is_forgotten(config, capsys):
    full, one, two = partition.add_chain(config, 1, 2)
    other = partition.add_chain(config, 10, 1)
    (config.physical_backups / one.name).unlink()
    assert store.settle(store.physical(config)) == (full, *other)
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"{config.physical_backups}/{one.name} is listed but gone: it is listed no longer",
        f"{two.name} continues a backup that is no longer listed: it is listed no longer",
    ]
    assert manifest.load(config.offered) == (full, *other)


def test_killed_while_a_chain_goes_the_rest_of_it_is_still_one(tmp_path, monkeypatch):
    for step in range(100):
        config = partition.config(tmp_path / str(step))
        where = store.physical(config)
        old, new = partition.add_chain(config, 1, 3), partition.add_chain(config, 8, 0)
        try:
            with killed_at(monkeypatch, step, after=True):
                store.expire(where, NOW)
        except Done:
            break
        listed = store.settle(where)
        assert listed in [(*old[:count], *new) for count in range(5)]
        assert names(config.physical_backups) == [*(entry.name for entry in listed), "manifest.json"]
    assert step > 5


@pytest.mark.parametrize("name", ["settle", "discard"])
def test_cleaning_twice_is_cleaning_once(config, name):
    (one,) = partition.add_backups(config, 1)
    offer.update(config)
    grow(config, partition.entry(2))
    for _ in range(2):
        getattr(store, name)(store.logical(config))
        assert_consistent(config, [one])
    assert store.logical(config).partial.exists() is False
