# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup that was made by the partition's program, fetched with the published URL, restores into an empty server."""

import contextlib
import hashlib
import json
import subprocess
import urllib.error

import pymysql
import pytest

from tests.cluster.node import eventually, fetch


@pytest.fixture
def offered(first):
    """URL and manifest entry of a backup made now, of data with text that is easily spoilt."""
    first.sql(
        "CREATE OR REPLACE TABLE erp5.kept (id INT PRIMARY KEY, text TEXT, raw BLOB)",
        "INSERT INTO erp5.kept VALUES (1, '日本語', x'00FF27'), (2, 'it''s', NULL)",
    )
    first.backup()
    base = first.published["replication-bootstrap-url"]
    newest = json.loads(fetch(first, base)[1])["backups"][-1]
    return base + newest["name"], newest


def test_it_downloads_with_its_checksum_and_by_ranges(first, offered):
    url, entry = offered
    status, whole = fetch(first, url)
    assert (status, len(whole), hashlib.sha256(whole).hexdigest()) == (200, entry["size"], entry["sha256"])
    status, part = fetch(first, url, Range="bytes=100-199")
    assert (status, part) == (206, whole[100:200])


def test_what_is_not_listed_is_not_served(first):
    (first.path / "srv/backup/mariadb-full/20200101T000000Z.sql.zst").write_text("not in the manifest")
    base = first.published["replication-bootstrap-url"]
    for name in (
        "20200101T000000Z.sql.zst",
        "../mariadb-full/manifest.json",
        "%2e%2e/%2e%2e/kept/accounts.json",
        "nothing",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(first, base + name)
        assert refused.value.code in (400, 404), name


def test_it_restores_into_an_empty_server(node, first, offered, tmp_path):
    url, _ = offered
    (tmp_path / "backup.sql.zst").write_bytes(fetch(first, url)[1])
    with empty_server(node.release / "parts/mariadb", tmp_path) as socket:
        client = f"{node.release}/parts/mariadb/bin/mariadb --no-defaults --socket={socket} --user=root --sandbox"
        restore = f"{node.release}/parts/zstd/bin/zstd --decompress --stdout {tmp_path}/backup.sql.zst | {client}"
        finished = subprocess.run(
            ["/bin/sh", "-c", restore], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert finished.returncode == 0, finished.stdout
        # The dump brought the accounts along, with their passwords, and put them in force.
        account = first.parameters["database-list"][0]
        login = {"user": account["user"], "password": account["password"].encode()}
        with contextlib.closing(pymysql.connect(unix_socket=str(socket), **login)) as db:
            cursor = db.cursor()
            cursor.execute("SELECT id, text, HEX(raw) FROM erp5.kept ORDER BY id")
            assert cursor.fetchall() == ((1, "日本語", "00FF27"), (2, "it's", None))


@contextlib.contextmanager
def empty_server(mariadb, folder):
    """A server as mariadb-install-db makes it, without networking or grants; yields its socket."""
    common = ["--no-defaults", f"--basedir={mariadb}/usr", f"--datadir={folder}/data"]
    install = [
        f"{mariadb}/bin/mariadb-install-db",
        *common,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    socket = folder / "s"
    options = [
        "--skip-networking",
        "--skip-grant-tables",
        f"--socket={socket}",
        f"--pid-file={folder}/pid",
        f"--log-error={folder}/e.err",
    ]
    server = subprocess.Popen([f"{mariadb}/sbin/mariadbd", *common, *options])
    try:
        eventually(socket.exists, "the empty server listens")
        yield socket
    finally:
        server.terminate()
        server.wait(60)
