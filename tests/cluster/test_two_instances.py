# SPDX-License-Identifier: GPL-2.0-or-later
"""Two instances processed for the first time by the same run do not get in each other's way."""

import contextlib

from tests.cluster.node import client_tls, connect

PORTS = ("mariadb-port", "backup-port", "caucased-port", "control-port")


def test_ports_and_server_ids_differ(pair):
    chosen = [(instance.path / "srv/kept" / name).read_text().strip() for instance in pair for name in PORTS]
    assert len(set(chosen)) == 8
    assert len({instance.published["server-id"] for instance in pair}) == 2


def test_each_published_url_reaches_its_own_server(pair):
    for instance in pair:
        published = instance.published
        urls = published["database-list"] + published["test-database-list"]
        for url, options in [*((url, {}) for url in urls), (published["replication-primary-url"], with_tls(instance))]:
            with contextlib.closing(connect(url, **options)) as db:
                cursor = db.cursor()
                cursor.execute("SELECT @@server_id")
                assert str(cursor.fetchone()[0]) == published["server-id"]


def with_tls(instance):
    return {"ssl": client_tls(instance)}


def test_a_published_account_writes_and_reads_its_database(first):
    with contextlib.closing(connect(first.published["database-list"][0])) as db:
        cursor = db.cursor()
        cursor.execute("CREATE TABLE IF NOT EXISTS greeting (text VARCHAR(20)) ENGINE=Mroonga")
        cursor.execute("INSERT INTO greeting VALUES ('日本語')")
        cursor.execute("SELECT text FROM greeting")
        assert ("日本語",) in cursor.fetchall()


def test_the_replication_account_can_only_replicate(second):
    rows = second.sql("SHOW GRANTS FOR replication_user@'%.%.%.%'")
    assert [row[0].split(" TO ")[0] for row in rows] == ["GRANT REPLICATION SLAVE ON *.*"]
