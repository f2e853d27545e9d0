# SPDX-License-Identifier: GPL-2.0-or-later
"""The SQL of replication: what is asked of a primary, and what makes a server a replica; one function an intent."""

import contextlib
import json
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pymysql
from pymysql.connections import Connection, MysqlPacket
from pymysql.constants import COMMAND

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import gtid, sql
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.tls.context import client_context
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.words import bracketed

CONNECT_RETRY = 10
"""Seconds between two attempts of a replica to reach its primary; MariaDB's default is 60."""
HEARTBEAT = 5
"""Seconds after which an idle primary gives a sign of life; `slave-net-timeout` in mariadb.cnf is 30."""


# ---- a primary, asked from afar


def connect_primary(primary: Primary, files: Files | None, timeout: float) -> Connection:
    """An autocommitting connection over TCP as the replication account; with `files`, over TLS, both sides proved.

    `files` are of the primary's authority (`Files.upstream`); without them the connection is plain. Each step may take
    `timeout` seconds. Raises AccessDenied, ServerError, ConfigurationError (unusable `files`); none has the password.
    """
    context = client_context(files, TERMS) if files else None
    try:
        return pymysql.connect(
            host=primary.host,
            port=primary.port,
            user=primary.user,
            # As bytes: PyMySQL would encode a text as latin1.
            password=primary.password.encode("utf-8"),
            charset="utf8mb4",
            autocommit=True,
            ssl=context,
            # Or it would use TLS without proof wherever the server offers it.
            ssl_disabled=context is None,
            connect_timeout=timeout,
            read_timeout=timeout,
            write_timeout=timeout,
            auth_plugin_map=sql.SAFE_LOGIN,
        )
    except (pymysql.MySQLError, OSError) as error:
        raise sql.failure(f"cannot connect to MariaDB on {primary.address}", error) from error


@dataclass(frozen=True)
class Facts:
    """What any account may know of a server's replication.

    `binlog_pos` is what it has in its binary log, `binlog_state` the same for each server that wrote into it, and
    `slave_pos` what it has from a primary; all are lists of GTIDs (gtid.parse).
    """

    version: str
    server_id: int
    domain_id: int
    binlog_pos: str
    binlog_state: str
    slave_pos: str
    strict: bool
    read_only: bool
    encrypted: bool

    @property
    def position(self) -> str:
        """How far it is in each domain, by its own writes and by those of a primary. Raises ServerError."""
        return gtid.text(gtid.furthest((*gtid.parse(self.binlog_pos), *gtid.parse(self.slave_pos))))


def server_facts(connection: Connection) -> Facts:
    """Ask with one statement. Raises ServerError."""
    (row,) = sql.rows(
        connection,
        "SELECT VERSION() AS version, @@GLOBAL.server_id, @@GLOBAL.gtid_domain_id, @@GLOBAL.gtid_binlog_pos,"
        " @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_strict_mode, @@GLOBAL.read_only,"
        " (SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'SSL_CIPHER') AS cipher",
    )
    return Facts(
        version=str(row["version"]),
        server_id=int(str(row["@@GLOBAL.server_id"])),
        domain_id=int(str(row["@@GLOBAL.gtid_domain_id"])),
        binlog_pos=str(row["@@GLOBAL.gtid_binlog_pos"]),
        binlog_state=str(row["@@GLOBAL.gtid_binlog_state"]),
        slave_pos=str(row["@@GLOBAL.gtid_slave_pos"]),
        strict=row["@@GLOBAL.gtid_strict_mode"] == 1,
        read_only=row["@@GLOBAL.read_only"] != 0,
        encrypted=bool(row["cipher"]),
    )


_BEGINNING = 4
"""Where the first event of a binary log is; a replica that follows GTIDs always says this."""
_NON_BLOCK = 1
"""BINLOG_DUMP_NON_BLOCK: at the end of the binary log the primary says so, and does not wait for more."""
_TRANSACTION = 162
"""The type of the event with which a transaction begins, GTID_EVENT."""


def can_follow(connection: Connection, gtid: str) -> str:
    """Whether a replica at `gtid` (empty: at the very beginning) could follow the server of `connection`.

    Empty when it could, else MariaDB's own sentence with its number. It is found out as a replica would: by asking for
    the binary log from there, until the first transaction or the log's end comes. That needs REPLICATION SLAVE alone,
    and leaves `connection` closed. Raises ServerError when the server goes away meanwhile.
    """
    for statement, values in (
        ("SET @mariadb_slave_capability = 4", ()),
        ("SET @master_binlog_checksum = @@GLOBAL.binlog_checksum", ()),
        ("SET @slave_connect_state = %s", (gtid,)),
        ("SET @slave_gtid_strict_mode = 1", ()),
        ("SET @slave_gtid_ignore_duplicates = 0", ()),
    ):
        sql.execute(connection, statement, values)
    try:
        # An id that nobody has: the server ends the connection of a replica when another one comes with its id.
        request = struct.pack("<IHI", _BEGINNING, _NON_BLOCK, (1 << 31) + secrets.randbelow(1 << 31))
        connection._execute_command(COMMAND.COM_BINLOG_DUMP, request)
        while not _answered(connection._read_packet()):
            pass
    except pymysql.MySQLError as error:
        if len(error.args) == 2 and error.args[0] < 2000:  # the server's own; the driver's begin with 2000
            return sql.words(error)
        raise sql.failure("cannot ask the primary for its binary log", error) from error
    except OSError as error:
        raise sql.failure("cannot ask the primary for its binary log", error) from error
    finally:
        connection._force_close()  # a goodbye would be of no use to a server that is sending
    return ""


def _answered(packet: MysqlPacket) -> bool:
    """Whether the primary has come to an end, or to the first transaction that it sends.

    An event's header: timestamp (4 bytes), type (1), and more, behind the byte that says that it is one.
    """
    data = packet.get_all_data()
    return packet.is_eof_packet() or (len(data) > 5 and data[5] == _TRANSACTION)


# ---- the state of a replica


@dataclass(frozen=True)
class Thread:
    """One of a replica's two threads: Yes, No, Connecting or Preparing, and MariaDB's last error (number 0: none)."""

    running: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.error} ({self.number})" if self.number else ""


@dataclass(frozen=True)
class Source:
    """One primary that a server replicates from, of SHOW ALL SLAVES STATUS; `lag` in seconds, None when unknown.

    `name` is empty but for connections that people have made beside ours.
    """

    name: str
    host: str
    port: int
    user: str
    io: Thread
    sql: Thread
    lag: int | None
    tls: bool
    verified: bool
    using_gtid: str
    gtid_io_pos: str

    @property
    def address(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def sources(connection: Connection) -> tuple[Source, ...]:
    """Where the server replicates from, our own connection first; none for a primary. Raises ServerError."""
    found = [_source(row) for row in sql.rows(connection, "SHOW ALL SLAVES STATUS")]
    return tuple(sorted(found, key=lambda source: source.name))


def _source(row: dict[str, object]) -> Source:
    lag = row["Seconds_Behind_Master"]
    return Source(
        name=str(row["Connection_name"]),
        host=str(row["Master_Host"]),
        port=int(str(row["Master_Port"])),
        user=str(row["Master_User"]),
        io=Thread(str(row["Slave_IO_Running"]), int(str(row["Last_IO_Errno"])), str(row["Last_IO_Error"])),
        sql=Thread(str(row["Slave_SQL_Running"]), int(str(row["Last_SQL_Errno"])), str(row["Last_SQL_Error"])),
        lag=None if lag is None else int(str(lag)),
        tls=row["Master_SSL_Allowed"] == "Yes",
        verified=row["Master_SSL_Verify_Server_Cert"] == "Yes",
        using_gtid=str(row["Using_Gtid"]),
        gtid_io_pos=str(row["Gtid_IO_Pos"]),
    )


# ---- the making of a replica


def set_position(connection: Connection, gtid: str) -> None:
    """Let the server have executed everything up to `gtid`, and nothing else; its binary logs begin anew."""
    sql.execute(connection, "RESET MASTER")
    if gtid:
        begin_binary_log(connection, gtid)
    sql.execute(connection, "SET GLOBAL gtid_slave_pos = %s", (gtid,))


def begin_binary_log(connection: Connection, gtid: str) -> None:
    """Let an empty binary log begin after `gtid`, so that a replica, or a backup's, can begin there."""
    sql.execute(connection, "SET GLOBAL gtid_binlog_state = %s", (gtid,))


def forget_primary(connection: Connection) -> None:
    """Let the server be no replica, and forget relay logs and whatever else there was; not the settings of TLS."""
    sql.execute(connection, "RESET SLAVE ALL")


def disable_events(connection: Connection) -> None:
    """Let no event fire here, as its effects come from the primary; for a server whose scheduler is off.

    As replication itself does for events that arrive by it. ALTER EVENT would make us their definer.
    """
    with sql.unlogged(connection):
        sql.execute(connection, "UPDATE mysql.event SET status = 'SLAVESIDE_DISABLED' WHERE status = 'ENABLED'")


def change_primary(connection: Connection, primary: Primary, files: Files | None, forget: bool = True) -> None:
    """Make the server a replica of `primary` from its gtid_slave_pos on, stopped; with `files` over TLS, verified.

    A replica that must stay one at every moment does not `forget` its old primary first: the new one takes its place.
    RESET SLAVE ALL leaves the TLS settings as they were (measured): each of them is given, empty without TLS.
    """
    paths = {"CA": files.ca, "CRL": files.crl, "CERT": files.client, "KEY": files.client} if files else {}
    values: dict[str, object] = {
        "MASTER_HOST": primary.host,
        "MASTER_PORT": primary.port,
        "MASTER_USER": primary.user,
        "MASTER_PASSWORD": primary.password,
        "MASTER_CONNECT_RETRY": CONNECT_RETRY,
        "MASTER_HEARTBEAT_PERIOD": HEARTBEAT,
        "MASTER_SSL": int(files is not None),
        **{
            f"MASTER_SSL_{name}": str(paths.get(name, ""))
            for name in ("CA", "CAPATH", "CERT", "KEY", "CIPHER", "CRL", "CRLPATH")
        },
        "MASTER_SSL_VERIFY_SERVER_CERT": int(files is not None),
    }
    if forget:
        forget_primary(connection)
    _change(connection, values, ", MASTER_USE_GTID = slave_pos", primary.password)


def change_password(connection: Connection, name: str, password: str) -> None:
    """Let the connection `name` of a running replica log in with another password from now on."""
    channel = f" {connection.escape(name)}"
    sql.execute(connection, f"STOP SLAVE{channel}")
    try:
        _change(connection, {"MASTER_PASSWORD": password}, "", password, channel)
    finally:
        sql.execute(connection, f"START SLAVE{channel}")


def _change(connection: Connection, values: dict[str, object], more: str, secret: str, channel: str = "") -> None:
    assignments = ", ".join(f"{name} = %s" for name in values)
    with _unwritten(connection):
        try:
            sql.execute(connection, f"CHANGE MASTER{channel} TO {assignments}{more}", tuple(values.values()))
        except ServerError as error:
            # A parser's error quotes what it could not read.
            raise ServerError(str(error).replace(secret, "...")) from None


@contextlib.contextmanager
def _unwritten(connection: Connection) -> Iterator[None]:
    """What is executed inside gets into no general log and no slow log: it holds a password."""
    sql.execute(connection, "SET SESSION sql_log_off = 1, SESSION slow_query_log = 0")
    try:
        yield
    finally:
        with contextlib.suppress(ServerError):
            sql.execute(connection, "SET SESSION sql_log_off = 0, SESSION slow_query_log = 1")


# ---- a primary's replicas, and their account


def replicas_connected(connection: Connection) -> frozenset[int]:
    """The server ids of the replicas that are connected now (a replica tells its id when it connects)."""
    if not sql.execute(
        connection, "SELECT 1 FROM information_schema.processlist WHERE command = 'Binlog Dump' LIMIT 1"
    ):
        return frozenset()
    return frozenset(int(str(row["Server_id"])) for row in sql.rows(connection, "SHOW SLAVE HOSTS"))


def disconnect_replicas(connection: Connection) -> int:
    """End the connections of all replicas, which come back by themselves where they may; how many there were."""
    found = sql.execute(connection, "SELECT id FROM information_schema.processlist WHERE command = 'Binlog Dump'")
    for (number,) in found:
        with contextlib.suppress(ServerError):  # it went by itself meanwhile
            sql.execute(connection, f"KILL CONNECTION {int(number)}")
    return len(found)


def requirements(connection: Connection, user: str) -> tuple[tuple[Account, str], ...]:
    """What each account of `user` requires besides a password, as REQUIRE has it: NONE, SSL, X509 or its parts."""
    found = sql.execute(
        connection,
        "SELECT Host, ssl_type, x509_subject, x509_issuer, ssl_cipher FROM mysql.user WHERE User = %s ORDER BY Host",
        (user,),
    )
    return tuple((Account(user, _text(host)), _require(*map(_text, values))) for host, *values in found)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _require(kind: str, subject: str, issuer: str, cipher: str) -> str:
    if kind != "SPECIFIED":
        return {"": "NONE", "ANY": "SSL"}.get(kind, kind)
    parts = (("SUBJECT", subject), ("ISSUER", issuer), ("CIPHER", cipher))
    return " ".join(f"{name} '{value}'" for name, value in parts if value)


def password_hashes(connection: Connection, account: Account) -> tuple[str, ...]:
    """The hashes of all passwords that an account may log in with; none when it logs in by other means."""
    found = sql.execute(
        connection, "SELECT Priv FROM mysql.global_priv WHERE User = %s AND Host = %s", (account.user, account.host)
    )
    privileges = json.loads(found[0][0]) if found else {}
    # One alternative of several, the empty one, is the entry itself.
    ways = [{**privileges, **way} for way in privileges.get("auth_or", [{}])]
    return tuple(way["authentication_string"] for way in ways if way.get("plugin") == "mysql_native_password")


def set_password_hashes(connection: Connection, account: Account, hashes: tuple[str, ...]) -> None:
    """Let an account log in with any of these passwords, and no other; what it requires (TLS) and its grants stay."""
    ways = " OR ".join("mysql_native_password USING %s" for _ in hashes)
    sql.execute(connection, f"ALTER USER %s@%s IDENTIFIED VIA {ways}", (account.user, account.host, *hashes))
