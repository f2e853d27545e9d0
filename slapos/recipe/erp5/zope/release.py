# SPDX-License-Identifier: GPL-2.0-or-later
"""The action release: Zopes that are held back may serve again."""

from typing import Any

from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, Preflight, Reason
from slapos.recipe.erp5.zope import hold, standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.standby_decide import ALL, HELD, RUNNING
from slapos.recipe.erp5.zope.standby_state import Standing


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action. Raises Refused, ServerError."""
    family = hold.family_of(config, options.get("family", ""))
    act.step(f"release {hold.named(family)}")
    standby_state.release(config.run, family)
    return f"{hold.named(family)}: released"


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run."""
    return hold.preflight(config, "release", options, decide)


def decide(standing: Standing, family: str) -> list[Reason]:
    """What a release of a family, or of ALL, would meet with."""
    held = [zope.name for zope in standing.zopes if zope.state == HELD and family in (ALL, zope.family)]
    if not held:
        return [Reason(INFO, f"none of {hold.named(family)} is held back")]
    database = standing.database
    if database.state == RUNNING:
        return [Reason(INFO, f"{', '.join(held)} would start now")]
    state = database.state or "silent"
    return [
        Reason(INFO, f"{', '.join(held)} would wait: {database.name} is {state}, and they serve once it is RUNNING")
    ]
