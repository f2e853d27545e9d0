# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of replication share: a primary with data of every kind, and replicas that go when a scenario ends."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.node import Instance, Node, eventually, fetch, tail

APPLICATION = {"name": "erp5", "user": "erp5", "password": "known to both sides"}
ROWS = 2000
GRANTS = {
    "db": "*",
    "tables_priv": "Host, Db, User, Table_name, Table_priv, Column_priv",
    "columns_priv": "Host, Db, User, Table_name, Column_name, Column_priv",
    "procs_priv": "Host, Db, User, Routine_name, Routine_type, Proc_priv",
    "roles_mapping": "*",
}
"""The tables of privileges, and what of them is not just when a row was made."""
TAP_PORTS = range(27100, 27200)
SEARCH = "SELECT uid FROM erp5.full_text WHERE MATCH (t) AGAINST ('検索' IN BOOLEAN MODE) ORDER BY uid"


def make_source(node: Node, name: str, **parameters: Any) -> Instance:
    """A green primary with tables of InnoDB and Mroonga, a dump, and a full physical backup with two incrementals."""
    source = node.instance(name)
    # The schedules' first runs come at once, and are waited for: one that met another backup would come again a minute
    # later, and be the newest one in the middle of a scenario.
    backup = {"logical": {"periodicity": "0 0 1 1 *"}, "physical": {"enable": True, "periodicity": "0 0 1 1 *"}}
    source.request({"database-list": [APPLICATION], "backup": backup, **parameters})
    node.process_only(source)
    source.wait_until_green()
    eventually(lambda: _first_backups_are_made(source), f"the first backups of {name}")
    source.sql(
        "USE erp5",
        "CREATE TABLE erp5.catalog (uid BIGINT PRIMARY KEY, data VARBINARY(500)) ENGINE=InnoDB",
        f"INSERT INTO erp5.catalog SELECT seq, RANDOM_BYTES(500) FROM seq_1_to_{ROWS}",
        "CREATE TABLE erp5.full_text (uid BIGINT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=Mroonga",
        "INSERT INTO erp5.full_text VALUES (1, '日本語のテキストを検索する')",
        "CREATE EVENT erp5.never ON SCHEDULE EVERY 1 YEAR DO DELETE FROM erp5.catalog",
        "CREATE USER someone@localhost IDENTIFIED BY 'of their own'",
        "GRANT SELECT ON erp5.* TO someone@localhost",
    )
    full(source)
    for number in (2, 3):
        source.sql(
            f"INSERT INTO erp5.full_text VALUES ({number}, '検索 {number}')", "UPDATE erp5.catalog SET uid = -uid"
        )
        made = source.program("mariadb-physical-backup-script")
        assert made.returncode == 0, made.stdout
    source.backup()
    return source


def _first_backups_are_made(source: Instance) -> bool:
    jobs = json.loads((source.path / "var/run/scheduler.json").read_text())["jobs"]
    return [job["outcome"] for job in jobs if "backup" in job["name"]] == ["done", "done"]


def full(source: Instance) -> None:
    """A full physical backup, when no other one is being made."""

    def made() -> bool:
        finished = source.program("mariadb-physical-backup-script", "--full")
        assert finished.returncode in (0, 75), finished.stdout
        return finished.returncode == 0

    eventually(made, f"a full backup of {source.name}")


@contextlib.contextmanager
def replica(
    node: Node,
    name: str,
    primary: Instance,
    bootstrap: str | None = None,
    *,
    more: dict | None = None,
    **replication: Any,
) -> Iterator[Instance]:
    """A green replica of `primary`, made by one request; it is destroyed at the end."""
    made = node.instance(name)
    made.request(made.replica_of(primary, bootstrap, **replication) | (more or {}))
    node.process_only(made)
    try:
        wait_until_made(made)
        status, host = made.slave_status(), urlsplit(primary.published["replication-primary-url"]).hostname
        encrypted = "Yes" if replication.get("replicate_with_tls", True) else "No"
        assert (status["Master_Host"], status["Master_SSL_Allowed"]) == (host, encrypted)
        yield made
    finally:
        node.destroy(made)


def wait_until_made(copy: Instance) -> None:
    """Wait until the replica is there, and green: it is while it is being made, too."""
    try:
        eventually((copy.path / "srv/mariadb").exists, f"the database of {copy.name} is made")
    except AssertionError as error:
        raise AssertionError(f"{error}: {copy.promises()}\n{tail(copy.path)}") from None
    copy.wait_until_green()


def make_two_at_once(node: Node, source: Instance) -> tuple[Instance, Instance]:
    """Two green replicas of `source`, requested together and processed for the first time by one run."""
    left, right = node.instance("left"), node.instance("right")
    for copy in (left, right):
        copy.request(copy.replica_of(source, ""))
    node.process_only(left, right)
    for copy in (left, right):
        wait_until_made(copy)
    return left, right


def follows(copy: Instance, primary: Instance) -> bool:
    """Whether `primary` is where `copy` replicates from."""
    return copy.slave_status()["Master_Port"] == primary.sql("SELECT @@port")[0][0]


def carry_secret(source: Instance, copy: Instance) -> bytes:
    """Let a row travel that nobody on the wire should read; returns its text."""
    text = "not for everybody"
    source.sql(f"CREATE TABLE erp5.{copy.name.replace('-', '_')} AS SELECT '{text}' AS t")
    copy.wait_for_row_of(source)
    return text.encode()


def renew(instance: Instance) -> bool:
    """Renew the certificates of an instance now; False when somebody else is at it."""
    done = instance.program("mariadb-renew-certificates")
    assert done.returncode in (0, 75), done.stdout
    return done.returncode == 0


def assert_same_data(one: Instance, other: Instance) -> None:
    """All tables of people are the same, and a full-text search finds the same."""
    assert contents(one) == contents(other)


def contents(instance: Instance) -> dict[str, Any]:
    query = (
        "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables"
        " WHERE table_schema IN ('erp5', 'slapos') ORDER BY 1"
    )
    names = [name for (name,) in instance.sql(query)]
    found = dict(instance.sql(f"CHECKSUM TABLE {', '.join(names)} EXTENDED"))
    return found | {"search": instance.sql(SEARCH)}


def accounts(instance: Instance) -> dict[tuple[str, str], dict]:
    """All that a server knows of each account, but for the administration's, which is each partition's own."""
    found = instance.sql("SELECT User, Host, Priv FROM mysql.global_priv WHERE User <> 'slapos_administrator'")
    grants = [
        sorted(map(str, instance.sql(f"SELECT {columns} FROM mysql.{table}"))) for table, columns in GRANTS.items()
    ]
    # When each server was made is not what makes an account.
    known = {(user, host): json.loads(priv) | {"password_last_changed": None} for user, host, priv in found}
    return known | {("grants", ""): dict(zip(GRANTS, grants, strict=True))}


class Tap:
    """A wire between a replica and its primary that keeps all that passes: whoever reads there sees what we see."""

    def __init__(self, primary: Instance) -> None:
        url = urlsplit(primary.published["replication-primary-url"])
        self.target, self.seen, self.closed = (url.hostname, url.port), bytearray(), threading.Event()
        self.server = next(filter(None, map(_listen, TAP_PORTS)))
        self.url = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{self.server.getsockname()[1]}")).geturl()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self.closed.is_set():
                near, _ = self.server.accept()
                far = socket.create_connection(self.target)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.closed.set()
        self.server.close()

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def offered(instance: Instance) -> list[dict[str, Any]]:
    """The backups that an instance offers."""
    return json.loads(fetch(instance, instance.published["replication-bootstrap-url"])[1])["backups"]
