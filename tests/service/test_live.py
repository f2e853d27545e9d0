# SPDX-License-Identifier: GPL-2.0-or-later
"""Live copies of a real server over mutual TLS: the same data at the other end, which replicates on from there."""

import threading

from slapos.recipe.erp5.mariadb import live_receive
from tests.service.backup_fixtures import Partition, empty_data, new_partition, partition, server, wait_until
from tests.service.live_fixtures import ask, assert_over, offer_live, receive, sender, slow
from tests.service.physical_fixtures import filled
from tests.service.test_physical_backup import checksums, churn, import_table, replicate, start_restored

__all__ = ["empty_data", "filled", "new_partition", "partition", "sender", "server"]


def test_a_live_copy_has_everything_and_replicates_on(sender, new_partition):
    position, before = sender.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0], checksums(sender)
    target = new_partition()
    seen: list[tuple[int, int]] = []
    with ask(sender) as response:
        received = live_receive.receive(
            target.config, response, target.config.data_directory, lambda done, total: seen.append((done, total))
        )
    assert_over(sender)
    assert_over(target)
    assert received.gtid == position
    assert received.server_version == sender.sql("SELECT VERSION()")[0][0]
    assert received.tablespaces == len({name for name in tablespaces(sender)})
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert 0.5 < seen[-1][0] / seen[-1][1] < 2, "the expected bytes are about those that come"
    sender.sql("INSERT INTO erp5.catalog (uid) VALUES (10000)")

    start_restored(target)
    assert checksums(target) == before
    replicate(target, sender, received.gtid)
    assert checksums(target) == checksums(sender) != before


def tablespaces(partition: Partition) -> set[str]:
    """The tables of people and of the system, each partition counted."""
    query = "SELECT name FROM information_schema.innodb_sys_tablespaces WHERE name LIKE '%/%'"
    return {name for (name,) in partition.sql(query)}


def test_a_copy_that_is_made_while_others_write_and_define_tables(sender, new_partition):
    stop = threading.Event()
    writer = threading.Thread(target=churn, args=(sender, stop))
    writer.start()
    try:
        wait_until(lambda: sender.sql("SHOW TABLES FROM erp5 LIKE 'kept_3'"), "the writer")
        slow(sender, 20_000_000)  # enough for the writer to get in everywhere
        target = new_partition()
        received = receive(sender, target)
    finally:
        stop.set()
        writer.join()
    assert received.gtid != sender.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0], "nobody wrote meanwhile"
    start_restored(target)
    replicate(target, sender, received.gtid)
    assert checksums(target) == checksums(sender)


def test_a_table_that_is_dropped_meanwhile(sender, new_partition):
    slow(sender, 8_000_000)
    target = new_partition()
    dropper = threading.Thread(target=drop_while_it_is_copied, args=(sender,))
    dropper.start()
    received = receive(sender, target)
    dropper.join()
    assert received.gtid == sender.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
    start_restored(target)
    assert target.sql("SHOW TABLES FROM erp5 LIKE 'parted'") == []
    assert checksums(target) == checksums(sender)


def drop_while_it_is_copied(partition: Partition) -> None:
    log = partition.config.physical_backup_log
    wait_until(lambda: log.exists() and b"Streaming ./erp5/catalog.ibd" in log.read_bytes(), "the copy of a table")
    partition.sql("DROP TABLE erp5.parted")


def test_an_imported_table_is_in_the_copy(sender, new_partition):
    import_table(sender)
    target = new_partition()
    receive(sender, target)
    start_restored(target)
    assert target.sql("SELECT * FROM erp5.imported") == [(42,)]


def test_a_replica_gives_copies_too(sender, new_partition):
    """The position is the replica's own, from where a third server may follow either of the two."""
    middle, last = new_partition(), new_partition()
    replicate_from(middle, sender, "--read-only")
    sender.sql("INSERT INTO erp5.catalog (uid) VALUES (10000)")
    wait_until(lambda: middle.sql("SELECT * FROM erp5.catalog WHERE uid = 10000"), "the row in the replica")
    web = offer_live(middle)
    try:
        received = receive(middle, last)
    finally:
        web.stop()
    assert received.gtid == sender.sql("SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
    start_restored(last, "--server-id=9")
    last.sql("RESET SLAVE ALL")  # what the copy has of the middle one's source
    replicate(last, middle, received.gtid)
    sender.sql("INSERT INTO erp5.catalog (uid) VALUES (10001)")
    wait_until(lambda: last.sql("SELECT * FROM erp5.catalog WHERE uid = 10001"), "the row in the last one")
    assert checksums(last) == checksums(sender) == checksums(middle)


def replicate_from(target: Partition, source: Partition, *options: str) -> None:
    """Make `target` a replica of `source`, which it is made of."""
    received = receive(source, target)
    start_restored(target, *options)
    replicate(target, source, received.gtid)
