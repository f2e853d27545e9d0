# SPDX-License-Identifier: GPL-2.0-or-later
"""The action resume: takes a fence away, so that the masters of the cluster run again."""

import time
from typing import Any

from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, Preflight, Reason, require
from slapos.recipe.erp5.neo import nodes, role_state
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.role_state import RoleState
from slapos.recipe.erp5.neo.status import asker

SETTLING = 30.0
"""Seconds in which a cluster whose masters run again is mostly back; storages that are missing keep it longer."""
SETTLED = ("RUNNING", "BACKINGUP", "STARTING_BACKUP")


def run(config: ClusterConfig, act: Act, options: dict[str, Any]) -> str:
    """The action resume. Raises Refused, Error."""
    require(check(config, options), bool(options.get("force")))
    act.step("start the masters again")
    nodes.require(config, "resume")
    role_state.of(config).change(fenced=None)
    deadline = time.monotonic() + SETTLING
    with asker(config) as ask:
        while (state := ask.status().cluster_state) not in SETTLED and time.monotonic() < deadline:
            act.step(f"wait until the cluster is back: it is {state or 'without a primary master'}")
            time.sleep(0.1)
    return f"this cluster is fenced no longer, and {state or 'has no primary master yet'}"


def check(config: ClusterConfig, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    return decide(role_state.of(config).load())


# ---- decide


def decide(state: RoleState) -> Preflight:
    """Whether this cluster may run again."""
    reasons = []
    if state.rejoin:
        reasons.append(
            Reason(
                REFUSE,
                f"this cluster is about to become a backup of {state.rejoin.upstream.cluster} since {state.rejoin.at},"
                " expected no such thing to be open: run bin/neo-rejoin again, which completes it",
            )
        )
    elif state.fenced is None:
        reasons.append(Reason(INFO, "this cluster is not fenced"))
    elif state.fenced.new_primary:
        reasons.append(
            Reason(
                FORCE,
                f"it was fenced at {state.fenced.at} ({state.fenced.reason}) for {state.fenced.new_primary.cluster} to"
                " be the primary, expected no second one: look there, and rejoin it if it is",
            )
        )
    return Preflight("resume", tuple(reasons))
