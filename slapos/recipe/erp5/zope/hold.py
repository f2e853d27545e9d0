# SPDX-License-Identifier: GPL-2.0-or-later
"""The action hold, what the others share with it, and the program that does any of them: `zope-hold --help`."""

import argparse
from typing import Any

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, REFUSE, WARN, Preflight, Reason
from slapos.recipe.erp5.errors import Busy, Refused
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.standby_decide import ALL, SERVING
from slapos.recipe.erp5.zope.standby_state import Standing


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, ServerError."""
    family = family_of(config, options.get("family", ""))
    act.step(f"hold back {named(family)}")
    standby_state.hold(config.run, family)
    return f"{named(family)}: held back"


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run."""
    return preflight(config, "hold", options, decide)


def decide(standing: Standing, family: str) -> list[Reason]:
    """What a hold of a family, or of ALL, would meet with."""
    serving = [zope.name for zope in standing.zopes if zope.state == SERVING and family in (ALL, zope.family)]
    if not serving:
        return [Reason(INFO, f"none of {named(family)} serves now")]
    return [Reason(WARN, f"{', '.join(serving)} would answer 503 until released")]


# ---- what all of them share


def family_of(config: Config, family: str) -> str:
    """The family that was named, or ALL. Raises Refused when there is no such family."""
    if family and family not in config.families:
        raise Refused(
            f"there is no family {family[:40]} in this partition, expected one of {', '.join(config.families)}"
        )
    return family or ALL


def named(family: str) -> str:
    """A family in sentences."""
    return "all" if family == ALL else family


def preflight(config: Config, action: str, options: dict[str, Any], decide: Any) -> Preflight:
    """What an action on a family would meet with: `decide` gets how all stand, and the family or ALL."""
    try:
        family = family_of(config, options.get("family", ""))
    except Refused as error:
        return Preflight(action, (Reason(REFUSE, str(error)),))
    standing = standby_state.status(config.run)
    if standing is None:
        return Preflight(action, (Reason(REFUSE, standby_state.nobody(config.run)),))
    return Preflight(action, tuple(decide(standing, family)), lost_transactions=0)


# ---- the program


def main() -> int:
    """Exit codes: 0 when it is done, 1 when it could not be, 75 when another action runs."""
    parser = argparse.ArgumentParser(
        description="Hold Zopes back: they end, and their ports answer 503, until they are released."
    )
    parser.add_argument("--config", required=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--release", action="store_true", help="let them run again")
    what.add_argument("--restart", action="store_true", help="end them, and let them start again")
    parser.add_argument("family", nargs="?", default="", help="one family of them; all when it is left out")
    options = parser.parse_args()

    def act() -> int:
        from slapos.recipe.erp5.control import actions
        from slapos.recipe.erp5.zope.actions import ACTIONS  # which names this module

        name = "release" if options.release else "restart" if options.restart else "hold"
        config = configuration.load(options.config)
        try:
            actions.perform(config, ACTIONS[name], "program", {"family": options.family})
        except Busy as error:
            process.log(f"error: {error}")
            return actions.BUSY
        return 0

    return process.program(act)
