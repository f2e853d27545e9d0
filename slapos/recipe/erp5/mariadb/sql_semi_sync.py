# SPDX-License-Identifier: GPL-2.0-or-later
"""The SQL of semi-synchronous replication: what a server does of it now, and what it is told to do."""

from dataclasses import dataclass

from pymysql.connections import Connection

from slapos.recipe.erp5.mariadb import sql

AFTER_SYNC = "AFTER_SYNC"
"""Wait after the binary log is synced and before the engine commits: nobody reads what no replica has received."""


@dataclass(frozen=True)
class State:
    """`awaits` and `acknowledges` are what the server was told to do as a primary and as a replica.

    `active` and `acknowledging` tell whether it does so now; `clients` is the number of replicas that acknowledge,
    `timeout` in milliseconds.
    """

    awaits: bool
    active: bool
    clients: int
    timeout: int
    wait_point: str
    acknowledges: bool
    acknowledging: bool


def state(connection: Connection) -> State:
    """Ask a server. Raises ServerError."""
    statement = "SHOW GLOBAL STATUS WHERE variable_name LIKE 'rpl_semi_sync%'"
    found = {str(row["Variable_name"]).lower(): str(row["Value"]) for row in sql.rows(connection, statement)}
    return State(
        awaits=sql.variable(connection, "rpl_semi_sync_master_enabled") == "1",
        active=found["rpl_semi_sync_master_status"] == "ON",
        clients=int(found["rpl_semi_sync_master_clients"]),
        timeout=int(sql.variable(connection, "rpl_semi_sync_master_timeout")),
        wait_point=sql.variable(connection, "rpl_semi_sync_master_wait_point"),
        acknowledges=sql.variable(connection, "rpl_semi_sync_slave_enabled") == "1",
        acknowledging=found["rpl_semi_sync_slave_status"] == "ON",
    )


def await_replicas(connection: Connection, enabled: bool) -> None:
    """Let commits wait for a replica, or not; off, those that wait go on at once."""
    sql.execute(connection, "SET GLOBAL rpl_semi_sync_master_enabled = %s", (int(enabled),))


def wait_at_most(connection: Connection, milliseconds: int) -> None:
    """Let a commit wait for a replica so long, after the binary log is synced."""
    sql.execute(connection, f"SET GLOBAL rpl_semi_sync_master_wait_point = {AFTER_SYNC}")
    sql.execute(connection, "SET GLOBAL rpl_semi_sync_master_timeout = %s", (milliseconds,))


def acknowledge(connection: Connection, enabled: bool) -> None:
    """Let the server acknowledge what it receives as a replica; the thread that receives reads this when it starts."""
    sql.execute(connection, "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = 1")
    sql.execute(connection, "SET GLOBAL rpl_semi_sync_slave_enabled = %s", (int(enabled),))
