# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a database read-only whatever its role, over restarts and reprocessing: the action fence, and its undoing."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, WARN, Preflight, Reason
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import role_state, semi_sync, sql, sql_role
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.role_state import Fence
from slapos.recipe.erp5.mariadb.sql_role import Client

GRACE = 0.2
"""Seconds that a transaction has to end by itself, before its connection is ended."""


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action fence. Raises Error."""
    # What was begun before is not completed against the will of who fences now.
    role_state.change(config, fence_pending=None)
    position = fence_wherever(config, act, Fence(act.by, "the action fence", times.text(times.now())))
    if position is None:
        return "no server runs here, and when one starts it refuses writes, until bin/mariadb-resume"
    return f"this database refuses writes, at GTID {position or 'empty'}, over restarts too, until bin/mariadb-resume"


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    state = role_state.load(config)
    with sql.connect(config.defaults_file, config.socket) as connection:
        clients = sql_role.writing(connection)
        replica = sql.is_replica(connection)
    reasons = [Reason(WARN, f"{client} will be ended") for client in clients]
    if state.fenced:
        reasons.append(
            Reason(INFO, f"this database is fenced already, since {state.fenced.at} ({state.fenced.reason})")
        )
    elif replica:
        reasons.append(Reason(INFO, "this database is a replica, and read-only as such"))
    return Preflight("fence", tuple(reasons))


def fence(config: Config, act: Act, wanted: Fence) -> str:
    """Refuse writes from now on; returns gtid_binlog_pos, behind which nothing comes any more.

    What lasts is written first, and is undone when the running server cannot be made read-only. Raises ServerError.
    """
    with _lasting(config, act, wanted), sql.connect(config.defaults_file, config.socket) as connection:
        _set_read_only(connection)
        return _stop_writes(connection)


def fence_wherever(config: Config, act: Act, wanted: Fence) -> str | None:
    """The same, also where no server runs: it will start read-only then, and nobody knows its position (None)."""
    try:
        return fence(config, act, wanted)
    except ServerError:
        with _lasting(config, act, wanted):
            if process.is_locked(config.path("srv", "mariadb.lock")):  # one that starts may have looked before
                raise
            return None


@contextlib.contextmanager
def _lasting(config: Config, act: Act, wanted: Fence) -> Iterator[None]:
    """The next start is read-only, unless it does not come to it here."""
    before = role_state.load(config).fenced
    act.step("refuse writes, over restarts too")
    role_state.change(config, fenced=after(before, wanted))
    try:
        yield
    except ServerError:
        role_state.change(config, fenced=before)
        raise


def after(before: Fence | None, wanted: Fence) -> Fence:
    """The fence that there is when another one is put up: the first of its kind stays.

    A hand-over takes only its own away, so any other one replaces that; and who is to be the primary is not forgotten.
    """
    if before is None:
        return wanted
    new = dataclasses.replace(wanted, new_primary=wanted.new_primary or before.new_primary)
    same = (new.new_primary, new.hand_over) == (before.new_primary, before.hand_over)
    return before if same else new


def _stop_writes(connection: Connection) -> str:
    """End what could write still; returns gtid_binlog_pos. Raises ServerError."""
    deadline = time.monotonic() + GRACE
    while clients := sql_role.writing(connection):
        if time.monotonic() >= deadline:
            for client in clients:
                sql_role.end(connection, client)
            break
        time.sleep(GRACE / 20)
    semi_sync.off(connection)
    return sql.gtid_binlog_pos(connection)


def _set_read_only(connection: Connection) -> None:
    try:
        sql_role.set_read_only(connection)
    except ServerError as error:
        raise ServerError(_still_writable(error, sql_role.busy(connection))) from error


def _still_writable(error: ServerError, clients: tuple[Client, ...]) -> str:
    who = f"{clients[0]} (KILL {clients[0].id} in bin/mariadb ends it)" if clients else "a statement that writes"
    return (
        f"this database is still writable, as it could not be made read-only within {sql_role.LOCK_WAIT} s ({error}), "
        f"expected no statement for longer; what is in its way is {who}: try again after its end"
    )


def resume(config: Config, act: Act) -> str:
    """Take the fence away, whatever its reason; returns the closing sentence. Raises Error.

    The server first: killed in between, the next start is read-only still, and this can be called again.
    """
    act.step("accept writes")
    with sql.connect(config.defaults_file, config.socket) as connection:
        sql_role.set_writable(connection)
    role_state.change(config, fenced=None, hand_over=None)
    return "this database accepts writes again"
