# SPDX-License-Identifier: GPL-2.0-or-later
"""All SQL of the MariaDB service: one function an intent, values bound, identifiers quoted."""

import configparser
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pymysql
from pymysql.connections import Connection, MysqlPacket
from pymysql.constants import ER
from pymysql.cursors import Cursor, DictCursor

from slapos.recipe.erp5.errors import ConfigurationError, ServerError

CONNECT_TIMEOUT = 10
"""Seconds that making a connection may take; statements themselves are not limited."""
TLS = "TLS"
"""What an account may require: an encrypted connection, with no certificate of the client's."""
# What mariadb-install-db makes and the server needs; whatever else it made goes away at creation.
_KEPT_ACCOUNTS = ("mariadb.sys", "root")
# A wrong password, none for an account that logs in by another plugin, a locked account, and an expired password, which
# is told at the login or, as to PyMySQL, at the first statement.
DENIALS = (ER.ACCESS_DENIED_ERROR, 1698, 4151, 1862, 1820)


class AccessDenied(ServerError):
    """There is a server, and it refuses this account or its password."""


class _Refuse:
    """Ends a login by a method that gives the password away."""

    def __init__(self, connection: Connection) -> None:
        pass

    def authenticate(self, packet: MysqlPacket) -> MysqlPacket:
        raise pymysql.err.OperationalError(
            2059, "the server asks for the password in a form that others could read, expected mysql_native_password"
        )


SAFE_LOGIN = dict.fromkeys(
    ("mysql_clear_password", "mysql_old_password", "dialog", "sha256_password", "caching_sha2_password"), _Refuse
)
"""PyMySQL's auth_plugin_map for servers that may be others than they should: whoever answers can ask for any method."""


# ---- connections, statements, quoting


def connect(defaults_file: str | Path, socket: str | Path | None = None, timeout: float | None = None) -> Connection:
    """An autocommitting connection as the [client] section of `defaults_file` says, through `socket` when given.

    With `timeout` no step may take longer than so many seconds; without it only connecting is limited.
    Raises ServerError when there is no server, AccessDenied when it refuses the account, ConfigurationError when
    `defaults_file` cannot be used.
    """
    options: dict[str, object] = {} if socket is None else {"unix_socket": str(socket)}
    if timeout is not None:
        options |= {"read_timeout": timeout, "write_timeout": timeout}
    try:
        return pymysql.connect(
            read_default_file=str(defaults_file),
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=timeout or CONNECT_TIMEOUT,
            ssl_disabled=True,  # on the machine itself; PyMySQL would use TLS wherever a server offers it
            **options,
        )
    except configparser.Error as error:
        # Its kind alone: its message can quote lines, and one of them has the password.
        raise ConfigurationError(
            f"{defaults_file} cannot be read ({type(error).__name__}): process the partition to write it again"
        ) from error
    except (pymysql.MySQLError, OSError) as error:
        raise failure("cannot connect to MariaDB", error) from error


def execute(connection: Connection, statement: str, values: Sequence[object] = ()) -> list[tuple]:
    """Execute `statement`, with `values` bound to its `%s` when there are any; its rows. Raises ServerError."""
    return _fetch(connection, Cursor, statement, values)


def rows(connection: Connection, statement: str, values: Sequence[object] = ()) -> list[dict[str, object]]:
    """Like `execute`, each row a dictionary: for SHOW statements, whose columns differ between versions."""
    return _fetch(connection, DictCursor, statement, values)


def _fetch(connection: Connection, kind: type[Cursor], statement: str, values: Sequence[object]) -> list:
    try:
        with connection.cursor(kind) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())
    except (pymysql.MySQLError, OSError) as error:
        # The statement's first words only: the rest may hold what is nobody's business.
        raise failure(f"MariaDB refused {' '.join(statement.split()[:2])}", error) from error


def failure(what: str, error: Exception) -> ServerError:
    """The exception for a driver's error."""
    denied = error.args and error.args[0] in DENIALS
    return (AccessDenied if denied else ServerError)(f"{what}: {words(error)}")


def words(error: Exception) -> str:
    """A driver's error as `message (number)`."""
    if len(error.args) == 2:
        return f"{error.args[1]} ({error.args[0]})"
    return str(error)


def identifier(name: str) -> str:
    """`name` quoted as an identifier, such as a database's in CREATE DATABASE."""
    return "`" + name.replace("`", "``") + "`"


def pattern(name: str) -> str:
    """The database `name` quoted for GRANT ... ON, where a bare `_` or `%` would match other databases too."""
    return identifier(_escaped(name))


def _escaped(name: str) -> str:
    return name.replace("_", r"\_").replace("%", r"\%")


def password_hash(password: str) -> str:
    """What mysql_native_password keeps of `password`: `*` and 40 hexadecimal digits.

    Accounts are made from it, so that no password gets into the binary log, a slow log or an error message.
    """
    return "*" + hashlib.sha1(hashlib.sha1(password.encode("utf-8")).digest()).hexdigest().upper()


@contextlib.contextmanager
def unlogged(connection: Connection) -> Iterator[None]:
    """What is done inside enters no binary log and gets no GTID, as it concerns this server alone."""
    execute(connection, "SET SESSION sql_log_bin = 0")
    try:
        yield
    finally:
        with contextlib.suppress(ServerError):  # a broken connection is reported by whoever broke it
            execute(connection, "SET SESSION sql_log_bin = 1")


# ---- what the server is


def version(connection: Connection) -> str:
    """The server's version, such as 10.11.19-MariaDB-log."""
    return str(execute(connection, "SELECT VERSION()")[0][0])


def variable(connection: Connection, name: str) -> str:
    """The value of the global variable `name`, as text (switches are 0 or 1)."""
    return str(execute(connection, f"SELECT @@GLOBAL.{identifier(name)}")[0][0])


def gtid_binlog_pos(connection: Connection) -> str:
    """The GTIDs of the last transactions in the binary log, such as 0-1-27; empty when there is none."""
    return variable(connection, "gtid_binlog_pos")


def log_sequence_number(connection: Connection) -> int:
    """How far InnoDB has written its redo log; it only ever grows, as long as the data directory is the same."""
    found = execute(
        connection,
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_LSN_CURRENT'",
    )
    return int(found[0][0])


def checkpoint(connection: Connection) -> None:
    """Write all changed pages to the tables now, so that no redo log from before is needed; enters no binary log."""
    execute(connection, "SET GLOBAL innodb_log_checkpoint_now = ON")


def tablespaces(connection: Connection) -> frozenset[tuple[int, str]]:
    """InnoDB's tablespaces, number and name (such as erp5/catalog, encoded as its file's name is)."""
    found = execute(connection, "SELECT space, name FROM information_schema.innodb_sys_tablespaces")
    return frozenset((int(space), str(name)) for space, name in found)


def is_replica(connection: Connection) -> bool:
    """Whether the server is configured to replicate from another one, be it running or stopped."""
    return bool(rows(connection, "SHOW ALL SLAVES STATUS"))


def is_writable(connection: Connection) -> bool:
    """Whether ordinary accounts may write."""
    return variable(connection, "read_only") == "0"


# ---- accounts and databases


@dataclass(frozen=True, order=True)
class Account:
    """Whom the server knows as 'user'@'host'; `host` may be a pattern."""

    user: str
    host: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


def databases(connection: Connection) -> frozenset[str]:
    """The names of all databases."""
    found = execute(connection, "SELECT schema_name FROM information_schema.schemata")
    return frozenset(str(name) for (name,) in found)


def accounts(connection: Connection) -> frozenset[Account]:
    """All accounts, without the roles."""
    found = execute(connection, "SELECT User, Host FROM mysql.user WHERE is_role = 'N'")
    return frozenset(Account(str(user), str(host)) for user, host in found)


def database_grants(connection: Connection) -> frozenset[tuple[str, Account]]:
    """Who has any privilege on which database: pairs of its name, without escapes, and the account."""
    found = execute(connection, "SELECT Db, User, Host FROM mysql.db")
    return frozenset((_unescaped(str(name)), Account(str(user), str(host))) for name, user, host in found)


def _unescaped(name: str) -> str:
    return name.replace(r"\_", "_").replace(r"\%", "%")


def global_grants(connection: Connection) -> frozenset[tuple[str, Account]]:
    """Who has the global privileges that we give: pairs of PROCESS or REPLICATION SLAVE, and the account."""
    found = execute(connection, "SELECT User, Host, Process_priv, Repl_slave_priv FROM mysql.user WHERE is_role = 'N'")
    pairs = set()
    for user, host, *granted in found:
        for privilege, yes in zip(("PROCESS", "REPLICATION SLAVE"), granted, strict=True):
            if yes == "Y":
                pairs.add((privilege, Account(str(user), str(host))))
    return frozenset(pairs)


def create_database(connection: Connection, name: str, character_set: str, collation: str) -> None:
    """Create a database that does not exist."""
    kind = f"CHARACTER SET {connection.escape(character_set)} COLLATE {connection.escape(collation)}"
    execute(connection, f"CREATE DATABASE {identifier(name)} {kind}")


def create_account(connection: Connection, account: Account, hashed: str, require: str) -> None:
    """Create an account that does not exist, its password given as `password_hash` makes it.

    `require` is empty, TLS (any connection with it), or the subject of a certificate, such as /CN=somebody.
    """
    clause = ""
    values: tuple[str, ...] = (account.user, account.host, hashed)
    if require == TLS:
        clause = " REQUIRE SSL"
    elif require:
        clause, values = " REQUIRE SUBJECT %s", (*values, require)
    execute(connection, f"CREATE USER %s@%s IDENTIFIED BY PASSWORD %s{clause}", values)


def replace_account(connection: Connection, account: Account, hashed: str) -> None:
    """Create an account, in place of one of that name, whose rights are gone then."""
    execute(connection, "CREATE OR REPLACE USER %s@%s IDENTIFIED BY PASSWORD %s", (account.user, account.host, hashed))


def native_password(connection: Connection, account: Account) -> str:
    """The hash of an account's present password; empty when it logs in by other means."""
    found = execute(
        connection,
        "SELECT authentication_string FROM mysql.user"
        " WHERE User = %s AND Host = %s AND plugin = 'mysql_native_password' AND authentication_string LIKE '*%%'",
        (account.user, account.host),
    )
    return str(found[0][0]) if found else ""


def grant_database(connection: Connection, name: str, account: Account) -> None:
    """Give `account` every privilege on the database `name`, and on no other whose name resembles it."""
    execute(connection, f"GRANT ALL PRIVILEGES ON {pattern(name)}.* TO {_quoted(connection, account)}")


def grant_global(connection: Connection, privilege: str, account: Account) -> None:
    """Give `account` a global privilege of a fixed name, such as PROCESS."""
    execute(connection, f"GRANT {privilege} ON *.* TO {_quoted(connection, account)}")


def _quoted(connection: Connection, account: Account) -> str:
    return f"{connection.escape(account.user)}@{connection.escape(account.host)}"


# ---- the accounts of the server itself


def administrator_statements(account: Account, hashed: str) -> str:
    """The init-file that makes (or makes again) the administration account, unlogged, before anybody can log in."""
    name = f"'{account.user}'@'{account.host}'"  # a constant of ours, and a hash: nothing in them needs quoting
    return (
        "SET SESSION sql_log_bin = 0;\n"
        f"CREATE OR REPLACE USER {name} IDENTIFIED BY PASSWORD '{hashed}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {name} WITH GRANT OPTION;\n"
    )


def keep_only_own_accounts(connection: Connection, administrator: Account) -> None:
    """Reduce what mariadb-install-db made to `administrator`, and root as the system's root on the socket."""
    kept = {Account(user, "localhost") for user in _KEPT_ACCOUNTS} | {administrator}
    for account in sorted(accounts(connection) - kept):
        execute(connection, "DROP USER %s@%s", (account.user, account.host))
    execute(connection, "ALTER USER 'root'@'localhost' IDENTIFIED VIA unix_socket")


# ---- engines, time zones


def has_mroonga(connection: Connection) -> bool:
    """Whether the storage engine Mroonga can be used now."""
    found = execute(connection, "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'Mroonga'")
    return found == [("ACTIVE",)]


def loaded_functions(connection: Connection) -> frozenset[str]:
    """The names of the functions that come from libraries, such as Mroonga's."""
    return frozenset(str(name) for (name,) in execute(connection, "SELECT name FROM mysql.func"))


def execute_script(connection: Connection, script: str) -> None:
    """Execute the statements of `script`, which end with `;` at a line's end (no DELIMITER, no routine bodies)."""
    for statement in (part.strip() for part in f"{script}\n".split(";\n")):
        if statement:
            execute(connection, statement)


def knows_time_zones(connection: Connection) -> bool:
    """Whether a time zone's name means something: Paris is two hours ahead of UTC in summer."""
    found = execute(connection, "SELECT HOUR(CONVERT_TZ('2020-07-01 00:00:00', 'UTC', 'Europe/Paris'))")
    return found == [(2,)]


# ---- certificates


def flush_ssl(connection: Connection) -> None:
    """Read certificates, authorities and revocation lists anew, for new connections; enters no binary log."""
    execute(connection, "FLUSH NO_WRITE_TO_BINLOG SSL")


# ---- logs


def reopen_logs(connection: Connection) -> None:
    """Close the error and slow logs, and open new ones where the old ones were renamed; enters no binary log."""
    execute(connection, "FLUSH NO_WRITE_TO_BINLOG ERROR LOGS, SLOW LOGS")
