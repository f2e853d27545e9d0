# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition on disk without any server, for unit tests of what its programs do with files."""

from pathlib import Path

from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.config import Backup, Config, LogicalBackup, Network, Secrets, Software
from slapos.recipe.erp5.mariadb.manifest import Entry


def config(partition: Path, **backup) -> Config:
    """The Config of an empty partition; `backup` replaces values of backup.logical."""
    for name in ("etc", "srv/mariadb", "var/run", "var/log"):
        (partition / name).mkdir(parents=True)
    return Config(
        instance="test",
        partition=str(partition),
        software=Software("/none/mariadb", "/none/logrotate", "/none/percona-toolkit", "/none/zstd", "/none/zoneinfo"),
        network=Network("127.0.0.2", "", 20001, 22001),
        server_id=7,
        secrets=Secrets("a", "r", "t"),
        databases=(),
        test_databases=(),
        character_set="utf8mb4",
        collation="utf8mb4_general_ci",
        mroonga=False,
        binlog_expire_days=10,
        backup=Backup(LogicalBackup(**{"enable": True, "periodicity": "daily", "retention_days": 7, **backup})),
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


def content(one: Entry) -> bytes:
    """What stands for a backup's compressed bytes here."""
    return one.name[0].encode() * one.size
