# SPDX-License-Identifier: GPL-2.0-or-later
"""The action resume: takes a fence away, so that the database is writable again."""

from datetime import datetime, timedelta
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, Preflight, Reason, require
from slapos.recipe.erp5.mariadb import fence, role_state, sql
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.role_state import RoleState

SETTLING = timedelta(seconds=60)
"""How long the other side of a hand-over may be about to become the primary: it waits for no longer (switchover.py)."""


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action resume. Raises Refused, Error."""
    require(check(config, options), bool(options.get("force")))
    return fence.resume(config, act)


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    with sql.connect(config.defaults_file, config.socket) as connection:
        sources = sql.is_replica(connection)
        writable = sql.is_writable(connection)
    return decide(role_state.load(config), sources, writable, times.now())


def decide(state: RoleState, replica: bool, writable: bool, now: datetime) -> Preflight:
    """Whether this database may be writable."""
    reasons = []
    if replica:
        reasons.append(
            Reason(REFUSE, "this database is a replica, expected a primary: bin/mariadb-takeover makes it one")
        )
    if state.hand_over and now - times.parse(state.hand_over.at) < SETTLING:
        reasons.append(
            Reason(
                REFUSE,
                f"it hands over to {state.hand_over.to_primary_url} since {state.hand_over.at}, which may become the "
                f"primary at any moment, expected {SETTLING.seconds} s to have passed: wait, it mostly ends by itself",
            )
        )
    elif state.hand_over:
        reasons.append(
            Reason(
                FORCE,
                f"it was fenced at {state.hand_over.at} to hand over to {state.hand_over.to_primary_url}, which may be "
                "the primary by now, expected to know that it is not: look there, and rejoin it if it is",
            )
        )
    elif state.last and state.last.primary_url_now:
        reasons.append(
            Reason(
                FORCE,
                f"since {state.last.at} ({state.last.action}) the primary is {state.last.primary_url_now}, expected "
                "no second one: rejoin that one",
            )
        )
    elif state.fenced and state.fenced.new_primary:
        reasons.append(
            Reason(
                FORCE,
                f"it was fenced at {state.fenced.at} ({state.fenced.reason}) for {state.fenced.new_primary} to be the "
                "primary, expected no second one: look there, and rejoin it if it is",
            )
        )
    if state.fenced is None and writable:
        reasons.append(Reason(INFO, "this database is writable already"))
    return Preflight("resume", tuple(reasons))
