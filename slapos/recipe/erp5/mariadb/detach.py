# SPDX-License-Identifier: GPL-2.0-or-later
"""The action detach: stop following for good, without touching the primary, as the first step of a clone."""

from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, Preflight, Reason, require
from slapos.recipe.erp5.mariadb import drain, gtid, preflight, promote, sql
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Snapshot


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, Error."""
    if promote.is_unfinished(config):
        return promote.complete(config, act)
    forced = bool(options.get("force"))
    snapshot = preflight.gather(config, times.now())
    require(decide(snapshot), forced)
    assert snapshot.status.own
    address = snapshot.status.own.sources[0].address
    with (
        sql.connect(config.defaults_file, config.socket) as connection,
        drain.drained(config, act, connection, forced=forced) as position,
    ):
        promotion = promote.begin(config, act, address, gtid.text(position))
        promote.promote(config, act, connection, promotion)
    return f"{promote.sentence(config, promotion)}; its events stay disabled, and nothing was done to {address}"


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    if promote.is_unfinished(config):
        return Preflight("detach", (Reason(INFO, promote.unfinished_sentence(config)),))
    return decide(preflight.gather(config, times.now()))


def decide(snapshot: Snapshot) -> Preflight:
    """What a detach would meet with."""
    reasons = list(preflight.replica_problems(snapshot, "detach"))
    own = snapshot.status.own
    if reasons or own is None:
        return Preflight("detach", tuple(reasons))
    reasons += preflight.applying_problems(snapshot, own)
    address = own.sources[0].address
    reasons.append(Reason(INFO, f"what {address} writes from now on does not come here, and nothing is done to it"))
    return Preflight("detach", tuple(reasons))
