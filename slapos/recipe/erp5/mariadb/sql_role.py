# SPDX-License-Identifier: GPL-2.0-or-later
"""The SQL of role changes on our own server: receiving, applying, writing, events; one function an intent."""

import contextlib
from dataclasses import dataclass

from pymysql.connections import Connection

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql, sql_replication

LOCK_WAIT = 5
"""Seconds that a fence waits for statements that are writing."""


# ---- receiving and applying


def stop_receiving(connection: Connection) -> None:
    """Let nothing more come from the primary; what came is applied on."""
    sql.execute(connection, "STOP SLAVE IO_THREAD")


def start_receiving(connection: Connection) -> None:
    """Go on receiving. Only while the other thread runs, or the relay logs are deleted (relay.py)."""
    sql.execute(connection, "START SLAVE IO_THREAD")


def start_applying(connection: Connection) -> None:
    """Apply what was received. Only while the other thread runs, or the relay logs are deleted (relay.py)."""
    sql.execute(connection, "START SLAVE SQL_THREAD")


def stop_replica(connection: Connection) -> None:
    """Stop both threads; what was received and not applied is lost at their next start (relay.py)."""
    sql.execute(connection, "STOP SLAVE")


def start_replica(connection: Connection) -> None:
    """Start both threads."""
    sql.execute(connection, "START SLAVE")


def set_slave_position(connection: Connection, position: str) -> None:
    """Let the replica, of which neither thread runs, go on behind `position`."""
    sql.execute(connection, "SET GLOBAL gtid_slave_pos = %s", (position,))


# ---- writing


def set_writable(connection: Connection) -> None:
    """Let ordinary accounts write from now on."""
    sql.execute(connection, "SET GLOBAL read_only = 0")


def set_read_only(connection: Connection) -> None:
    """Let no ordinary account write from now on; waits LOCK_WAIT seconds for statements that are writing.

    What was begun and not committed cannot be committed any more. Raises ServerError.
    """
    sql.execute(connection, f"SET SESSION lock_wait_timeout = {LOCK_WAIT}")
    sql.execute(connection, "SET GLOBAL read_only = 1")


@dataclass(frozen=True)
class Client:
    """A connection that keeps others from something: its `id`, whose it is, for how many seconds, what it does."""

    id: int
    user: str
    seconds: int
    what: str

    def __str__(self) -> str:
        return f"connection {self.id} of {self.user}, for {self.seconds} s in {self.what}"


_THREADS = ("Binlog Dump", "Slave_IO", "Slave_SQL", "Slave_worker", "Daemon")


def busy(connection: Connection) -> tuple[Client, ...]:
    """Who executes a statement now, the longest first; the statement's first word alone, the rest is nobody's."""
    found = sql.execute(
        connection,
        "SELECT id, user, time, SUBSTRING_INDEX(TRIM(info), ' ', 1) FROM information_schema.processlist"
        f" WHERE command NOT IN ({', '.join(['%s'] * len(_THREADS))}) AND info IS NOT NULL AND id <> CONNECTION_ID()"
        " ORDER BY time_ms DESC",
        _THREADS,
    )
    return tuple(Client(int(number), str(user), int(seconds), str(what)[:20]) for number, user, seconds, what in found)


def writing(connection: Connection) -> tuple[Client, ...]:
    """Connections with a transaction that has changed something and is not committed."""
    found = sql.execute(
        connection,
        "SELECT p.id, p.user, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()) FROM information_schema.innodb_trx AS t"
        " JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id"
        f" WHERE t.trx_rows_modified > 0 AND p.id <> CONNECTION_ID() AND p.command NOT IN"
        f" ({', '.join(['%s'] * len(_THREADS))})",
        _THREADS,
    )
    return tuple(Client(int(number), str(user), int(seconds), "a transaction") for number, user, seconds in found)


def end(connection: Connection, client: Client) -> None:
    """End a connection; what it has not committed is undone."""
    with contextlib.suppress(ServerError):  # it went by itself meanwhile
        sql.execute(connection, f"KILL CONNECTION {client.id}")


# ---- networking


def write_system_tables(connection: Connection) -> None:
    """Write those system tables to their files that a start looks at (start.py); enters no binary log."""
    sql.execute(connection, "FLUSH LOCAL TABLES mysql.global_priv, mysql.plugin, mysql.func")


def is_silent(connection: Connection) -> bool:
    """Whether the server listens on its socket alone."""
    return sql.variable(connection, "skip_networking") == "1"


# ---- events


@dataclass(frozen=True)
class Event:
    """An event that fires elsewhere, with whoever it runs as (`user@host`)."""

    database: str
    name: str
    definer: str


def events_elsewhere(connection: Connection) -> tuple[Event, ...]:
    """Events that came by replication, or were told to fire on the primary alone."""
    found = sql.execute(
        connection,
        "SELECT event_schema, event_name, definer FROM information_schema.events WHERE status = 'SLAVESIDE_DISABLED'",
    )
    return tuple(Event(*map(str, row)) for row in found)


def enable_event(connection: Connection, event: Event) -> None:
    """Let an event fire here from now on, as whom it was defined. Raises ServerError."""
    user, _, host = event.definer.rpartition("@")
    definer = f"{connection.escape(user)}@{connection.escape(host)}"
    name = f"{sql.identifier(event.database)}.{sql.identifier(event.name)}"
    sql.execute(connection, f"ALTER DEFINER = {definer} EVENT {name} ENABLE")


def disable_events(connection: Connection) -> None:
    """Let no event fire here any more, on a running server too, whose scheduler reads them when it begins."""
    on = sql.variable(connection, "event_scheduler") == "ON"
    if on:
        sql.execute(connection, "SET GLOBAL event_scheduler = OFF")
    sql_replication.disable_events(connection)
    if on:
        sql.execute(connection, "SET GLOBAL event_scheduler = ON")


# ---- hand-over


def wait_for(connection: Connection, position: str, seconds: float) -> bool:
    """Whether all up to `position` is applied within so many seconds."""
    return sql.execute(connection, "SELECT MASTER_GTID_WAIT(%s, %s)", (position, seconds))[0][0] == 0


def longest_writer(connection: Connection) -> Client | None:
    """Whose transaction has been changing rows for the longest time, if there is one."""
    return max(writing(connection), key=lambda client: client.seconds, default=None)
