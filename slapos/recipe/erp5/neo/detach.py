# SPDX-License-Identifier: GPL-2.0-or-later
"""The action detach: a backup cluster stops following for good, without touching its upstream: a clone's first step."""

from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, WARN, Preflight, Reason, require
from slapos.recipe.erp5.neo import look, preflight, promote, role_state
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.neo.preflight import Snapshot
from slapos.recipe.erp5.neo.status import asker


def run(config: ClusterConfig, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, Error."""
    forced = bool(options.get("force"))
    with asker(config) as ask:
        begun = role_state.of(config).load()
        if begun.promotion and promote.is_unfinished(begun, ask.status()):
            return promote.complete(config, act, ask, begun.promotion, forced)
        snapshot = look.snapshot(config, ask, times.now())
        verdict = decide(snapshot)
        require(verdict, forced)
        act.details["behind-seconds"] = verdict.lost_seconds
        return promote.promote(config, act, ask, promote.begin(config, act, snapshot, forced=forced))


def check(config: ClusterConfig, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    with asker(config) as ask:
        begun = role_state.of(config).load()
        if begun.promotion and promote.is_unfinished(begun, ask.status()):
            return Preflight("detach", (Reason(INFO, promote.unfinished_sentence(begun.promotion)),), None, 0.0)
        return decide(look.snapshot(config, ask, times.now()))


# ---- decide


def decide(snapshot: Snapshot) -> Preflight:
    """What a detach would meet with."""
    reasons = list(preflight.backup_problems(snapshot, "detach"))
    if reasons:
        return Preflight("detach", tuple(reasons))
    name, behind = snapshot.upstream_name, preflight.lost_seconds(snapshot)
    text = f"what {name} writes from now on does not come here, and nothing is done to it"
    reasons.append(Reason(INFO, text))
    if behind is not None and behind > preflight.TRAILS:
        last, stays = snapshot.upstream_tid, snapshot.status.backup_tid
        assert last and stays
        text = (
            f"this cluster ends at {preflight.moment(stays)}, {preflight.seconds(behind)} before the last transaction"
            f" of {name} that is known, {preflight.moment(last)}"
        )
        reasons.append(Reason(WARN, text))
    reasons += preflight.storage_problems(snapshot)
    return Preflight("detach", tuple(reasons), None, behind)
