# SPDX-License-Identifier: GPL-2.0-or-later
"""The action restart: Zopes end once their requests are answered, and start again by themselves."""

from typing import Any

from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import INFO, WARN, Preflight, Reason
from slapos.recipe.erp5.zope import hold, standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.standby_decide import ALL
from slapos.recipe.erp5.zope.standby_state import Standing


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action; it has ended when the processes have. Raises Refused, ServerError."""
    family = hold.family_of(config, options.get("family", ""))
    act.step(f"end {hold.named(family)}")
    standby_state.restart(config.run, family)
    return f"{hold.named(family)}: ended, to start again"


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run."""
    return hold.preflight(config, "restart", options, decide)


def decide(standing: Standing, family: str) -> list[Reason]:
    """What a restart of a family, or of ALL, would meet with."""
    found = [zope.name for zope in standing.zopes if zope.child_pid and family in (ALL, zope.family)]
    if not found:
        return [Reason(INFO, f"none of {hold.named(family)} has a process now")]
    return [Reason(WARN, f"{', '.join(found)} would answer 503 until their new processes serve")]
