# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of physical backups share: tables of every engine, one backup, one restore."""

import hashlib
import os

import pytest

from slapos.recipe.erp5.mariadb import manifest, mroonga, physical_restore, sql, store
from slapos.recipe.erp5.mariadb.manifest import Entry
from tests.service.backup_fixtures import Partition

BACKUP = "mariadb.physical"
TEXT = "日本語のテキストを検索する"


def fill(server: Partition) -> None:
    """Tables of every engine that ERP5 uses, with partitions and names that are encoded."""
    with sql.connect(server.config.defaults_file) as connection:
        mroonga.install(server.config, connection)
    server.sql(
        "CREATE DATABASE erp5",
        "USE erp5",
        "CREATE TABLE catalog (uid BIGINT PRIMARY KEY, data LONGBLOB) ENGINE=InnoDB",
        "INSERT INTO catalog SELECT seq, RANDOM_BYTES(1000) FROM seq_1_to_3000",
        "CREATE TABLE full_text (uid BIGINT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=Mroonga",
        f"INSERT INTO full_text VALUES (1, '{TEXT}')",
        "CREATE TABLE parted (i INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH(i) PARTITIONS 3",
        "INSERT INTO parted SELECT seq FROM seq_1_to_100",
        "CREATE TABLE `カタログ/2` (i INT) ENGINE=InnoDB",
        "CREATE TABLE aria (i INT) ENGINE=Aria",
        "CREATE TABLE myisam (i INT) ENGINE=MyISAM",
        "INSERT INTO myisam VALUES (1)",
        "CREATE USER replica@'127.0.0.1' IDENTIFIED BY 'secret'",
        "GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'",
    )


def listed(partition: Partition) -> tuple[Entry, ...]:
    return manifest.load(partition.config.physical_backups)


def back_up(partition: Partition, *arguments: str) -> Entry:
    code, said = partition.run(BACKUP, *arguments)
    assert code == 0, said
    assert_consistent(partition)
    return listed(partition)[-1]


def assert_consistent(partition: Partition) -> None:
    """Each listed file is whole, offered, and no other file is anywhere."""
    entries, config = listed(partition), partition.config
    assert manifest.load(config.offered) == entries
    names = sorted([*(entry.name for entry in entries), "manifest.json"])
    assert (
        sorted({*os.listdir(config.physical_backups), "manifest.json"}) == names == sorted(os.listdir(config.offered))
    )
    for entry in entries:
        assert hashlib.sha256((config.offered / entry.name).read_bytes()).hexdigest() == entry.sha256
    assert not store.physical(config).partial.exists()


def restore(source: Partition, target: Partition, entries: tuple[Entry, ...]) -> str:
    links = physical_restore.local(entries, source.config.physical_backups)
    return physical_restore.restore(target.config, links, target.config.data_directory)


@pytest.fixture
def filled(server: Partition) -> Partition:
    fill(server)
    return server
