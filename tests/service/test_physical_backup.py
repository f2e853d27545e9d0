# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical backups of a real server: chains that restore to the same data and replicate on, and nothing left out."""

import dataclasses
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest, physical, sql, store
from slapos.recipe.erp5.mariadb.manifest import FULL, INCREMENTAL
from tests.service.backup_fixtures import Partition, empty_data, new_partition, partition, server, wait_until
from tests.service.physical_fixtures import BACKUP, assert_consistent, back_up, filled, listed, restore

__all__ = ["empty_data", "filled", "new_partition", "partition", "server"]


def start_restored(target: Partition, *options: str) -> None:
    target.start_server(None, "--server-id=8", "--skip-slave-start", *options)


def checksums(partition: Partition) -> dict[str, object]:
    """A checksum of each table of people, and what a full-text search finds."""
    query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE 'erp5%'"
    names = [f"{sql.identifier(schema)}.{sql.identifier(name)}" for schema, name in partition.sql(query)]
    found = dict(partition.sql(f"CHECKSUM TABLE {', '.join(names)} EXTENDED"))
    search = "SELECT uid, t FROM erp5.full_text WHERE MATCH (t) AGAINST ('検索' IN BOOLEAN MODE) ORDER BY uid"
    return found | {"search": partition.sql(search), "rows": partition.sql("SELECT * FROM erp5.full_text ORDER BY uid")}


def replicate(target: Partition, source: Partition, gtid: str) -> None:
    """Make `target` a replica of `source` from `gtid` on, and wait until it has all that `source` has now."""
    target.sql(
        f"SET GLOBAL gtid_slave_pos = '{gtid}'",
        f"CHANGE MASTER TO master_host='127.0.0.1', master_port={source.port}, master_user='replica',"
        " master_password='secret', master_use_gtid=slave_pos",
        "START SLAVE",
    )
    position = source.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
    assert target.sql(f"SELECT MASTER_GTID_WAIT('{position}', 60)") == [(0,)], status_of(target)


def status_of(replica: Partition) -> str:
    with sql.connect(replica.config.defaults_file) as connection:
        (row,) = sql.rows(connection, "SHOW SLAVE STATUS")
    return f"{row['Last_IO_Error']} {row['Last_SQL_Error']}"


# ---- what a chain is worth


def test_a_full_backup_and_two_incrementals_restore_and_replicate_on(filled, new_partition):
    full = back_up(filled)
    filled.sql(
        "USE erp5",
        "UPDATE catalog SET data = RANDOM_BYTES(900) WHERE uid < 50",
        "CREATE TABLE created (i INT)",
        "INSERT INTO created VALUES (1)",
        "INSERT INTO full_text VALUES (2, '検索 日本語のテキストを検索する')",
    )
    first = back_up(filled)
    filled.sql(
        "USE erp5",
        "DROP TABLE `カタログ/2`",
        "RENAME TABLE created TO renamed",
        "TRUNCATE TABLE parted",
        "INSERT INTO parted VALUES (1000)",
        "ALTER TABLE catalog ADD COLUMN x INT DEFAULT 3, FORCE",
        "INSERT INTO full_text VALUES (3, '日本語のテキストを検索する 検索')",
        "INSERT INTO myisam VALUES (2)",
    )
    second = back_up(filled)
    position, before = filled.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0], checksums(filled)
    assert [entry.kind for entry in listed(filled)] == [FULL, INCREMENTAL, INCREMENTAL]
    assert [entry.physical.base for entry in listed(filled)] == ["", full.name, first.name]
    assert second.gtid == position
    assert full.server_version == filled.sql("SELECT VERSION()")[0][0]
    assert full.physical.plain_size > full.size > second.size
    filled.sql("INSERT INTO erp5.catalog (uid) VALUES (10000)", "CREATE TABLE erp5.later (i INT) ENGINE=InnoDB")

    other = new_partition()
    assert restore(filled, other, listed(filled)) == position
    start_restored(other)
    assert checksums(other) == before
    assert len(before["search"]) == 3
    replicate(other, filled, position)
    assert checksums(other) == checksums(filled) != before
    assert other.sql("SELECT COUNT(*) FROM erp5.catalog WHERE uid = 10000") == [(1,)]


def churn(server: Partition, stop: threading.Event) -> None:
    """Write, and create, rename, truncate and drop tables, until told to stop."""
    number = 0
    while not stop.is_set():
        number += 1
        server.sql(
            "USE erp5",
            f"INSERT INTO catalog (uid) VALUES ({100000 + number})",
            f"CREATE TABLE new_{number} (i INT PRIMARY KEY) ENGINE=InnoDB",
            f"INSERT INTO new_{number} VALUES ({number})",
            f"RENAME TABLE new_{number} TO kept_{number}",
            f"CREATE TABLE gone_{number} (i INT) ENGINE=InnoDB",
            f"DROP TABLE gone_{number}",
            "TRUNCATE TABLE parted",
            f"INSERT INTO parted VALUES ({number})",
        )


def test_a_chain_made_while_others_write_and_define_tables(filled, new_partition):
    stop = threading.Event()
    writer = threading.Thread(target=churn, args=(filled, stop))
    writer.start()
    try:
        wait_until(lambda: filled.sql("SHOW TABLES FROM erp5 LIKE 'kept_3'"), "the writer")
        # Slow enough for the writer to get in everywhere.
        filled.max_rate = 20_000_000
        filled.write_configuration()
        for _ in range(2):
            back_up(filled)
    finally:
        stop.set()
        writer.join()
    other = new_partition()
    position = restore(filled, other, listed(filled))
    assert position != filled.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0], "nobody wrote meanwhile"
    start_restored(other)
    replicate(other, filled, position)
    assert checksums(other) == checksums(filled)


def import_table(server: Partition) -> None:
    """Give a table a tablespace that was exported: what mariadb-backup then takes for a table that was dropped."""
    folder = server.config.data_directory / "erp5"
    with server.connect(database="erp5") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE imported (i INT PRIMARY KEY) ENGINE=InnoDB")
        cursor.execute("INSERT INTO imported VALUES (42)")
        cursor.execute("FLUSH TABLES imported FOR EXPORT")
        for suffix in ("ibd", "cfg"):
            shutil.copy(folder / f"imported.{suffix}", server.folder / f"imported.{suffix}")
        cursor.execute("UNLOCK TABLES")
        cursor.execute("SET GLOBAL innodb_log_checkpoint_now = ON")
        cursor.execute("ALTER TABLE imported DISCARD TABLESPACE")
        for suffix in ("ibd", "cfg"):
            shutil.copy(server.folder / f"imported.{suffix}", folder / f"imported.{suffix}")
        cursor.execute("ALTER TABLE imported IMPORT TABLESPACE")


def test_a_table_that_mariadb_backup_leaves_out_is_noticed(filled, monkeypatch):
    import_table(filled)
    monkeypatch.setattr(sql, "checkpoint", lambda connection: None)  # so that its log still tells of the table's end
    with pytest.raises(BackupError) as caught, store.lock(filled.config):
        physical.make(filled.config)
    log = filled.config.physical_backup_log
    assert b"completed OK!" in log.read_bytes()
    assert str(caught.value) == (
        "no backup was made, mariadb-backup left out erp5/imported, which the server has: run this again when no table "
        f"is being imported, and see {log}; there is none yet"
    )
    assert listed(filled) == ()


def test_an_imported_table_is_in_the_next_backup(filled, new_partition):
    import_table(filled)
    back_up(filled)
    other = new_partition()
    restore(filled, other, listed(filled))
    start_restored(other)
    assert other.sql("SELECT * FROM erp5.imported") == [(42,)]


# ---- full or incremental


def kinds(partition: Partition) -> list[str]:
    return [entry.kind for entry in listed(partition)]


def reason(partition: Partition, *arguments: str) -> str:
    """What the program says first: which kind it makes, and why."""
    code, said = partition.run(BACKUP, *arguments)
    assert code == 0, said
    return said[0]


def test_which_kind_is_made(new_partition, empty_data):
    server = new_partition(physical={"enable": True, "incrementals": 1})
    server.start_server(empty_data)
    server.sql("CREATE DATABASE erp5")
    assert reason(server) == "a full backup: there is no backup to build on"
    assert reason(server) == f"an incremental backup on {listed(server)[0].name}"
    assert reason(server) == "a full backup: backup.physical.incrementals is 1"
    assert reason(server, "--full") == "a full backup: it was asked for"
    *others, last = listed(server)
    manifest.save(server.config.physical_backups, [*others, dataclasses.replace(last, server_version="10.6.1-MariaDB")])
    version = server.sql("SELECT VERSION()")[0][0]
    assert reason(server) == f"a full backup: the server is {version}, that of {last.name} was 10.6.1-MariaDB"
    assert kinds(server) == [FULL, INCREMENTAL, FULL, FULL, FULL]
    assert_consistent(server)


def test_a_database_made_anew_begins_with_a_full_backup(server, empty_data):
    server.sql("CREATE DATABASE erp5")
    before = back_up(server)
    server.stop_server()
    shutil.rmtree(server.config.data_directory)
    server.start_server(empty_data)
    server.sql("CREATE DATABASE another")
    assert reason(server) == f"a full backup: the database is not the one of {before.name}"


def test_incrementals_without_their_base_are_forgotten(server):
    server.sql("CREATE DATABASE erp5")
    full, incremental = back_up(server), back_up(server)
    (server.config.physical_backups / full.name).unlink()
    code, said = server.run(BACKUP)
    assert code == 0
    assert said[:3] == [
        f"{server.config.physical_backups}/{full.name} is listed but gone: it is listed no longer",
        f"{incremental.name} continues a backup that is no longer listed: it is listed no longer",
        "a full backup: there is no backup to build on",
    ]
    assert kinds(server) == [FULL]
    assert manifest.load(server.config.offered) == listed(server)


def test_retention_takes_whole_chains(new_partition, empty_data):
    server = new_partition(physical={"enable": True, "incrementals": 1})
    server.start_server(empty_data)
    server.sql("CREATE DATABASE erp5")
    for _ in range(2):
        back_up(server)
    age(server, 0, days=30)
    assert kinds(server) == [FULL, INCREMENTAL]
    third = back_up(server)
    assert third.kind == FULL
    assert kinds(server) == [FULL, INCREMENTAL, FULL], "its incremental is young"
    age(server, 1, days=20)
    fourth = back_up(server)
    assert listed(server) == (third, fourth)
    assert_consistent(server)


def age(partition: Partition, number: int, days: int) -> None:
    """Make a listed backup look so many days old."""
    entries = list(listed(partition))
    start = times.text(times.now() - timedelta(days=days))
    entries[number] = dataclasses.replace(entries[number], start=start)
    manifest.save(partition.config.physical_backups, entries)


def test_the_data_directory_is_never_written_to(server):
    server.sql("CREATE DATABASE erp5")
    position = server.sql("SELECT @@GLOBAL.gtid_binlog_pos")
    back_up(server)
    assert server.sql("SELECT @@GLOBAL.gtid_binlog_pos") == position
    assert sorted(path.name for path in Path(server.folder).iterdir()) == ["etc", "srv", "tmp", "var"]
    assert list((server.folder / "tmp").iterdir()) == []
