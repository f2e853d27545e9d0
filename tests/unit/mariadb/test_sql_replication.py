# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server that is not the primary can get out of us, and what is in no error."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pymysql
import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql_replication
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.tls import files

SECRET = "replication-secret"


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


GREETING = packet(
    0,
    b"\x0a5.5.5-10.11.19-MariaDB\0"
    + struct.pack("<I", 1)
    + b"12345678\0"
    + struct.pack("<HBHH", 0xF7FF & ~0x0800, 45, 2, 0x81FF)  # all there is but TLS
    + bytes([21])
    + b"\0" * 10
    + b"123456789012\0"
    + b"mysql_native_password\0",
)


@contextlib.contextmanager
def impostor(method: str) -> Iterator[tuple[int, bytearray]]:
    """A server without TLS that asks for the password by `method`; its port, and what it has got."""
    got = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.settimeout(10)
                client.sendall(GREETING)
                got.extend(client.recv(4096))
                client.sendall(packet(2, b"\xfe" + method.encode() + b"\0" + b"12345678901234567890\0"))
                got.extend(client.recv(4096))
                got.extend(client.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], got
        finally:
            thread.join()


@pytest.mark.parametrize(
    "method", ["mysql_clear_password", "mysql_old_password", "dialog", "sha256_password", "caching_sha2_password"]
)
def test_an_impostor_does_not_get_the_password(method):
    with impostor(method) as (port, got), pytest.raises(ServerError) as raised:
        sql_replication.connect_primary(Primary("127.0.0.1", port, "u", SECRET), None, 10)
    assert str(raised.value) == (
        f"cannot connect to MariaDB on 127.0.0.1:{port}: the server asks for the password in a form that others could "
        "read, expected mysql_native_password (2059)"
    )
    assert b"u\0" in got and SECRET.encode() not in got


def test_where_tls_is_asked_for_a_server_without_it_gets_nothing(tmp_path):
    files.ensure(tmp_path, "mariadb", ("127.0.0.1",))
    with impostor("mysql_clear_password") as (port, got), pytest.raises(ServerError) as raised:
        sql_replication.connect_primary(Primary("127.0.0.1", port, "u", SECRET), files.Files(tmp_path), 10)
    assert str(raised.value) == (
        f"cannot connect to MariaDB on 127.0.0.1:{port}: SSL is required but the server doesn't support it (2026)"
    )
    assert not got


class Quoting:
    """A connection whose CHANGE MASTER is refused as a parser does it: with what it could not read."""

    def cursor(self, kind):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fetchall(self):
        return []

    def execute(self, statement, values):
        if statement.startswith("CHANGE MASTER"):
            raise pymysql.err.ProgrammingError(1064, f"You have an error near '{values}'")


def test_no_error_quotes_the_password():
    with pytest.raises(ServerError) as raised:
        sql_replication.change_primary(Quoting(), Primary("h", 1, "u", SECRET), None)
    assert "MASTER_SSL" not in str(raised.value) and "MariaDB refused CHANGE MASTER" in str(raised.value)
    assert SECRET not in str(raised.value) and "..." in str(raised.value)
    assert raised.value.__cause__ is None
