# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition on disk without any server, for unit tests of what its programs do with files."""

import dataclasses
from pathlib import Path

from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.config import (
    Backup,
    Caucased,
    Config,
    LogicalBackup,
    Network,
    PhysicalBackup,
    Secrets,
    SemiSync,
    Software,
)
from slapos.recipe.erp5.mariadb.manifest import FULL, INCREMENTAL, Entry, Physical


def config(partition: Path, physical: dict | None = None, **backup) -> Config:
    """The Config of an empty partition; `backup` and `physical` replace values of backup.logical and .physical."""
    schedule = {"periodicity": "daily", "retention_days": 7}
    for name in ("etc", "srv/mariadb", "var/run", "var/log"):
        (partition / name).mkdir(parents=True)
    return Config(
        instance="test",
        partition=str(partition),
        software=Software("/none/mariadb", "/none/logrotate", "/none/percona-toolkit", "/none/zstd", "/none/zoneinfo"),
        network=Network("127.0.0.2", "", 20001, 22001, 24002, 26002),
        server_id=7,
        secrets=Secrets("a", "r", "t"),
        databases=(),
        test_databases=(),
        character_set="utf8mb4",
        collation="utf8mb4_general_ci",
        mroonga=False,
        innodb_log_file_size=96 << 20,
        binlog_expire_days=10,
        backup=Backup(
            LogicalBackup(**{"enable": True, **schedule, **backup}),
            PhysicalBackup(**{"enable": False, "incrementals": 6, **schedule, **(physical or {})}),
            max_rate=0,
        ),
        replication=None,
        replication_user="replication_user",
        replicas_use_tls=True,
        caucased=Caucased("", ()),
        semi_sync=SemiSync(False, 10),
    )


def add_backups(config: Config, count: int) -> tuple[Entry, ...]:
    """Put so many backups, of 1 November 2026 and the following days, into the folder and its list."""
    entries = tuple(entry(day) for day in range(1, count + 1))
    config.dumps.mkdir(parents=True, exist_ok=True)
    for one in entries:
        (config.dumps / one.name).write_bytes(content(one))
    manifest.save(config.dumps, entries)
    return entries


def entry(day: int) -> Entry:
    """The backup of a day in November 2026; content() gives its file's bytes."""
    return Entry(
        name=f"202611{day:02}T000000Z.sql.zst",
        kind="logical",
        size=100 + day,
        sha256=f"{day:064x}",
        gtid=f"0-7-{day}",
        start=f"2026-11-{day:02}T00:00:00Z",
        end=f"2026-11-{day:02}T00:01:00Z",
        server_version="10.11.19-MariaDB",
    )


def chain(day: int, incrementals: int) -> tuple[Entry, ...]:
    """A full physical backup of a day in November 2026, and incrementals of the following days, each on the last."""
    made: list[Entry] = []
    for number in range(incrementals + 1):
        one, lsn = entry(day + number), 1000 * (day + number)
        kind, suffix = (INCREMENTAL, "incremental") if made else (FULL, "full")
        base, begin = (made[-1].name, lsn - 1000) if made else ("", 0)
        physical = Physical(base, begin, lsn, plain_size=1000, tablespaces=4, database="D")
        name = one.name.replace("sql", suffix)
        made.append(dataclasses.replace(one, name=name, kind=kind, physical=physical))
    return tuple(made)


def add_chain(config: Config, day: int, incrementals: int) -> tuple[Entry, ...]:
    """Put chain() into the folder of physical backups and its list, beside those that are there."""
    entries = chain(day, incrementals)
    config.physical_backups.mkdir(parents=True, exist_ok=True)
    for one in entries:
        (config.physical_backups / one.name).write_bytes(content(one))
    manifest.save(config.physical_backups, (*manifest.load(config.physical_backups), *entries))
    return entries


def content(one: Entry) -> bytes:
    """What stands for a backup's compressed bytes here."""
    return one.name[0].encode() * one.size
