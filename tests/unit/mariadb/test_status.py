# SPDX-License-Identifier: GPL-2.0-or-later
"""What is gathered from a partition's files, and from addresses on which nobody answers."""

import dataclasses
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import State
from slapos.recipe.erp5.errors import BackupError, ServerError
from slapos.recipe.erp5.mariadb import manifest, space, sql, sql_identity, status, store
from slapos.recipe.erp5.mariadb.status import Answer, BinaryLogs, NextBackup
from tests.unit.mariadb import partition

LOG = f".slappart0_mariadb-{'0' * 32}.log"


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path / "p")


def binary_log(config, number, begun, size):
    path = config.data_directory / f"binlog.{number:06}"
    path.write_bytes(b"\xfebin" + int(begun.timestamp()).to_bytes(4, "little") + b"\0" * (size - 8))


# ---- the server


def test_probe():
    def raises(error):
        raise error

    identity = sql_identity.Identity("10.11.19", 7, "/d", 1, ("*",), True, False, 3)
    assert status.probe("a", lambda: identity) == Answer("a", identity)
    assert status.probe("a", lambda: raises(sql.AccessDenied("no"))) == Answer("a", error="no", refused=True)
    assert status.probe("a", lambda: raises(ServerError("none"))) == Answer("a", error="none")


def test_nobody_there(config):
    config.data_directory.rmdir()
    config.path("srv", "mariadb.new").mkdir()
    config.path(LOG).write_text("2026-11-22 10:00:00 step: create the databases\n2026-11-22 10:00:01 error: no room\n")
    config.defaults_file.write_text("[client]\nuser = x\n")
    gathered = status.server(config)
    assert (gathered.exists, gathered.creating, gathered.step) == (False, True, "create the databases")
    assert (gathered.at_work, gathered.error) == (False, "no room")
    assert gathered.local.address == str(config.socket)
    assert "No such file or directory" in gathered.local.error
    assert [answer.address for answer in gathered.network] == ["127.0.0.2:20001"]
    assert "Connection refused" in gathered.network[0].error


def test_the_network_is_asked_as_who_replicates(config, monkeypatch):
    """A replica's account is its primary's, whatever that is called."""
    users = []

    def identify(timeout, **where):
        users.append(where.get("user"))
        raise ServerError("nobody")

    monkeypatch.setattr(sql_identity, "identify", identify)
    gathered = status.server(dataclasses.replace(config, replication_user="upstream"))
    assert gathered.replication_user == "upstream"
    assert sorted(map(str, users)) == ["None", "upstream"]


def test_a_new_directory_beside_a_complete_database_is_no_creation(config):
    config.path("srv", "mariadb.new").mkdir()
    gathered = status.server(config)
    assert (gathered.exists, gathered.creating) == (True, False)


def test_last_step(config):
    folder = Path(config.partition)
    assert status.last_line(folder, "step: ") == ""
    (folder / ".slappart0_mariadb-control.log").write_text("step: not the service's\n")
    old = folder / f".slappart0_mariadb-{'1' * 32}.log"
    old.write_text("2026-11-21 10:00:00 step: old\n")
    os.utime(old, (1, 1))
    assert status.last_line(folder, "step: ") == "old"
    (folder / LOG).write_text("2026-11-22 10:00:00 step: one\n2026-11-22 10:00:00 step: two\nmore\n\xff\n")
    assert status.last_line(folder, "step: ") == "two"
    (folder / LOG).rename(folder / f".slappart0_mariadb-{'0' * 32}-on-watch.log")
    assert status.last_line(folder, "step: ") == "two"


# ---- backups


def test_backup_of_an_empty_partition(config):
    gathered = status.backup(store.logical(config))
    assert (gathered.created, gathered.newest, gathered.missing, gathered.scheduler) == (None, None, False, State())


def test_backup(config):
    *_, newest = partition.add_backups(config, 3)
    known = State(heartbeat="2026-11-22T00:00:00Z")
    state.save(config.scheduler_state, known)
    gathered = status.backup(store.logical(config))
    assert (gathered.newest, gathered.missing, gathered.scheduler) == (newest, False, known)
    (config.dumps / newest.name).write_bytes(b"cut")
    assert status.backup(store.logical(config)).missing
    (config.dumps / newest.name).unlink()
    assert status.backup(store.logical(config)).missing


def test_physical_backups_are_looked_after_when_they_are_enabled(tmp_path):
    config = partition.config(tmp_path / "q", physical={"enable": True, "periodicity": "hourly"})
    full, _, newest = partition.add_chain(config, 1, 2)
    dumps, physical = status.backups(config)
    assert (dumps.parameter, dumps.job) == ("backup.logical", "logical-backup")
    assert dumps.program == "bin/mariadb-dump-script"
    assert (physical.parameter, physical.job) == ("backup.physical", "physical-backup")
    assert physical.program == "bin/mariadb-physical-backup-script"
    assert (physical.periodicity, physical.newest, physical.missing) == ("hourly", newest, False)
    (config.physical_backups / full.name).write_bytes(b"cut")  # without its base the newest one is worth nothing
    assert status.backups(config)[1].missing


def test_physical_backups_that_are_off_are_not_spoken_of(config):
    assert [backup.parameter for backup in status.backups(config)] == ["backup.logical"]


def test_a_manifest_that_cannot_be_read_is_an_error(config):
    config.dumps.mkdir(parents=True)
    (config.dumps / "manifest.json").write_text("{")
    with pytest.raises(BackupError):
        status.backup(store.logical(config))
    with pytest.raises(BackupError):
        status.disk(config)


def test_created_is_the_oldest_definition(config):
    tables = config.data_directory / "mysql"
    tables.mkdir()
    for name, time in (("user.frm", 2000), ("db.frm", 1000), ("db.MAD", 10)):
        (tables / name).touch()
        os.utime(tables / name, (time, time))
    assert status.created(config.data_directory) == datetime.fromtimestamp(1000, UTC)


# ---- disk


def test_binary_logs(config):
    assert status.binary_logs(config) == BinaryLogs(0, None, 10)
    first, second = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    binary_log(config, 2, first, 1000)
    binary_log(config, 3, second, 500)
    (config.data_directory / "binlog.000009").write_bytes(b"not listed")
    folder = config.data_directory
    (folder / "binlog.index").write_text(f"./binlog.000001\n{folder}/binlog.000002\n./binlog.000003\n")
    assert status.binary_logs(config) == BinaryLogs(1500, first, 10)


def test_a_binary_log_that_has_only_just_begun_or_gone(config):
    (config.data_directory / "binlog.000001").write_bytes(b"\xfebin\0")
    assert status.begun(config.data_directory / "binlog.000001") is None
    assert status.begun(config.data_directory / "binlog.000002") is None


def test_disk(config):
    (config.data_directory / "ibdata1").write_bytes(b"x" * 5_000_000)
    gathered = status.disk(config)
    assert gathered.tables == 5_000_000
    assert gathered.backups == (NextBackup("backup.logical", "backup", space.needed((), 5_000_000), None),)
    assert gathered.free == pytest.approx(space.free(config.path("srv")), rel=0.2)
    *_, newest = partition.add_backups(config, 3)
    assert [backup.newest for backup in status.disk(config).backups] == [newest.size]


def test_disk_without_scheduled_backups(tmp_path):
    assert status.disk(partition.config(tmp_path / "p", enable=False)).backups == ()


def test_disk_with_physical_backups(tmp_path):
    config = partition.config(tmp_path / "p", physical={"enable": True}, enable=False)
    full, *_ = partition.add_chain(config, 1, 2)
    needs = space.needed((full,), 0)
    assert status.disk(config).backups == (NextBackup("backup.physical", "full physical backup", needs, full.size),)


def test_the_configuration_names_the_binary_logs_as_we_do():
    template = Path(__file__).parents[3] / "stack" / "erp5" / "mariadb" / "mariadb.cnf.in"
    (name,) = re.findall(r"^log-bin = (?:.*/mariadb/)?([^/\s]+)$", template.read_text(), re.MULTILINE)
    assert name == status.BINARY_LOG


def test_who_holds_the_service_lock_is_at_work(config):
    path = config.path("srv", "mariadb.lock")
    assert not process.is_locked(path)
    with process.lock(path, "busy"):
        assert process.is_locked(path)
    assert not process.is_locked(path)


def test_a_backup_from_the_future_is_not_the_newest(config):
    *_, newest = partition.add_backups(config, 2)
    listed = manifest.load(config.dumps)
    manifest.save(config.dumps, [*listed[:-1], dataclasses.replace(listed[-1], start="2130-01-01T00:00:00Z")])
    (gathered,) = status.backups(config)
    assert gathered.future == (newest.name,)
    assert gathered.newest == listed[0]


def test_the_disk_of_the_fuller_file_system_counts(config, monkeypatch):
    config.path("srv", "backup").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(space, "free", lambda folder: 10 if folder == config.data_directory else 20)
    assert status.disk(config).folder == str(config.path("srv"))
    monkeypatch.setattr(space, "device", lambda folder: 2 if folder == config.data_directory else 1)
    gathered = status.disk(config)
    assert (gathered.folder, gathered.free) == (str(config.data_directory), 10)
