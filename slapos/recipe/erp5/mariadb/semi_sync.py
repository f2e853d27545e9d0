# SPDX-License-Identifier: GPL-2.0-or-later
"""Semi-synchronous replication: a primary acknowledges a write once a replica has received it, as `semi-sync` asks.

Private servers and new databases never wait: these are options of the service and settings of its server alone.
"""

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Busy, Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import sql, sql_replication, sql_role, sql_semi_sync
from slapos.recipe.erp5.mariadb.config import Config, SemiSync
from slapos.recipe.erp5.mariadb.sql_semi_sync import AFTER_SYNC, State

PRIMARY, REPLICA = "primary", "replica"
PERIOD = 2.0
"""Seconds between two looks of mariadb-control."""
TIMEOUT = 10.0
"""Seconds that a statement of such a look may take."""
KEPT = "mariadb-control does that within seconds: read its log, and process the instance to start it"


# ---- decide


def options(wanted: SemiSync, replica: bool, promoted: bool = False) -> tuple[str, ...]:
    """What mariadbd is told on its command line: a restarted primary waits for its replicas to come back.

    One that is just being promoted has none yet: follow() lets it wait once there is one.
    """
    if not wanted.enable or (promoted and not replica):
        return ()
    if replica:
        # One second: who stops to receive tells the primary so, by a connection of its own, and it may be dead.
        return "--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-slave-kill-conn-timeout=1"
    return (
        "--rpl-semi-sync-master-enabled=ON",
        f"--rpl-semi-sync-master-timeout={wanted.timeout_seconds * 1000}",
        f"--rpl-semi-sync-master-wait-point={AFTER_SYNC}",
    )


@dataclass(frozen=True)
class Seen:
    """A server: its role, whether it is writable, whether its thread that receives runs, and its semi-sync state."""

    role: str
    writable: bool
    receives: bool
    state: State


@dataclass(frozen=True)
class Plan:
    """What to change; None and False: nothing. `restart` the thread that receives, which reads it at its start."""

    limit: bool = False
    awaits: bool | None = None
    acknowledges: bool | None = None
    restart: bool = False


def plan(wanted: SemiSync, seen: Seen, keep: bool) -> Plan:
    """What makes the server do what its role is asked to.

    Commits begin to wait when a replica is connected, or a new primary would stand still; with `keep`, what waits
    already goes on to, though none is connected at the moment.
    """
    state = seen.state
    awaits = wanted.enable and seen.role == PRIMARY and (state.clients > 0 or (keep and state.awaits))
    acknowledges = wanted.enable and seen.role == REPLICA
    return Plan(
        limit=differs(wanted, state),
        awaits=awaits if awaits != state.awaits else None,
        acknowledges=acknowledges if acknowledges != state.acknowledges else None,
        restart=seen.receives and acknowledges != state.acknowledging,
    )


def differs(wanted: SemiSync, state: State) -> bool:
    """Whether a primary would wait otherwise than asked."""
    return wanted.enable and (state.timeout, state.wait_point) != (wanted.timeout_seconds * 1000, AFTER_SYNC)


# ---- gather, act


def look(connection: Connection) -> Seen:
    """Raises ServerError."""
    sources = sql_replication.sources(connection)
    return Seen(
        role=REPLICA if sources else PRIMARY,
        writable=sql.is_writable(connection),
        receives=any(source.io.running == "Yes" for source in sources[:1]),
        state=sql_semi_sync.state(connection),
    )


def apply(connection: Connection, config: Config, role: str) -> None:
    """Let a server that becomes `role` (PRIMARY or REPLICA) do what that one does: before or after it has become it.

    A new primary waits for nobody before a replica is connected: mariadb-control sees to it then. A primary that waits
    has to stop that before it becomes a replica: it would apply nothing, and not even stop. Raises ServerError.
    """
    seen = dataclasses.replace(look(connection), role=role)
    _carry_out(connection, config.semi_sync, plan(config.semi_sync, seen, keep=False))


def off(connection: Connection) -> None:
    """Let no commit wait for a replica, whatever is asked; those that wait go on. Raises ServerError."""
    sql_semi_sync.await_replicas(connection, False)


def _carry_out(connection: Connection, wanted: SemiSync, plan: Plan) -> None:
    if plan.limit:
        sql_semi_sync.wait_at_most(connection, wanted.timeout_seconds * 1000)
    if plan.awaits is not None:
        sql_semi_sync.await_replicas(connection, plan.awaits)
    if plan.acknowledges is not None:
        sql_semi_sync.acknowledge(connection, plan.acknowledges)
    if plan.restart:
        sql_role.stop_receiving(connection)
        sql_role.start_receiving(connection)


def follow(config: Config) -> bool:
    """Let the running server do what is asked of its role now; whether there was anything to do.

    Raises ServerError, or Busy while an action changes its role.
    """
    with sql.connect(config.defaults_file, config.socket, TIMEOUT) as connection:
        if _due(config, connection) == Plan():
            return False
        with process.lock(config.path("var", "run", "action.lock"), "an action changes the role: wait for its end"):
            _carry_out(connection, config.semi_sync, _due(config, connection))
        return True


def _due(config: Config, connection: Connection) -> Plan:
    seen = look(connection)
    if seen.role == PRIMARY and not seen.writable:
        return Plan()  # it is fenced, and whoever did that has switched this off
    return plan(config.semi_sync, seen, keep=True)


def keep(path: Path, stop: threading.Event) -> None:
    """Follow the configuration at `path`, and the role of the database, until `stop`: a thread of mariadb-control."""
    said = ""
    while True:
        try:
            if follow(configuration.load(path)):
                process.log("semi-sync: the server does what is asked of its role now")
            said = ""
        except Busy:
            pass
        except (Error, OSError) as error:
            if said != (said := process.describe(error)):  # once: the promises say it all the time
                process.log(f"semi-sync: {said}; this is tried again")
        if stop.wait(PERIOD):
            return


# ---- judge


def problems(wanted: SemiSync, role: str, writable: bool, state: State) -> Iterator[str]:
    """What of it is not as asked for; nothing is expected of a primary that is fenced."""
    if not wanted.enable:
        if state.awaits or state.acknowledges:
            yield f"semi-sync replication is on, expected it off, as semi-sync.enable is false: {KEPT}"
    elif role == REPLICA:
        if not state.acknowledges:
            yield (
                "the replica does not acknowledge what it receives (rpl_semi_sync_slave_enabled is OFF), expected it "
                f"to, as semi-sync.enable is true: {KEPT}"
            )
    elif writable:
        yield from _primary_problems(wanted, state)


def _primary_problems(wanted: SemiSync, state: State) -> Iterator[str]:
    remedy = (
        "see that a replica with semi-sync.enable is connected and keeps up, upon which this mends itself, or give "
        "false to both"
    )
    if not state.awaits or not state.active:
        yield (
            f"semi-sync replication is off, as no replica has acknowledged within {wanted.timeout_seconds} s or since "
            f"this database became a primary (connected now: {state.clients}), expected it on, as semi-sync.enable is "
            f"true: writes are acknowledged that no replica may have; {remedy}"
        )
    elif state.clients == 0:
        yield (
            "semi-sync replication is on without a replica that acknowledges, expected one, as semi-sync.enable is "
            f"true: the next write waits {wanted.timeout_seconds} s, and all others go on without a replica; {remedy}"
        )
    if differs(wanted, state):
        yield (
            f"a write waits {state.timeout / 1000:g} s for a replica ({state.wait_point}), expected "
            f"{wanted.timeout_seconds} s ({AFTER_SYNC}), as semi-sync.timeout-seconds says: {KEPT}"
        )


def summary(wanted: SemiSync, role: str, state: State) -> str:
    """What is added to the sentence when all is well; empty where it is not asked for."""
    if not wanted.enable:
        return ""
    if role == REPLICA:
        return "; it acknowledges what it receives"
    return f"; replicas that acknowledge: {state.clients}"
