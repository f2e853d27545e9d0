# SPDX-License-Identifier: GPL-2.0-or-later
"""What another instance may have the Zopes of a partition do, when it proves to know the partition's token."""

from typing import Any

from slapos.recipe.erp5.control import actions
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.actions import ACTIONS
from slapos.recipe.erp5.zope.config import Config

BY = "another instance"


def do(config: Config, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Do what was asked, for control/peer.py. Raises Busy, Refused, Error."""
    if name == "status":
        return _status(config)
    return {"sentence": actions.perform(config, ACTIONS[name], BY, dict(parameters))}


def _status(config: Config) -> dict[str, Any]:
    found = standby_state.status(config.run)
    if found is None:
        return {"database": "", "zopes": {}}
    return {"database": found.database.state, "zopes": {zope.name: zope.state for zope in found.zopes}}
