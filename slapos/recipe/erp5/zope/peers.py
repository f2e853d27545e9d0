# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be asked of a partition of Zopes by who proves to know its token: how they stand, hold, release, restart."""

from typing import Any

from slapos.recipe.erp5.control.peer import Peers, Question
from slapos.recipe.erp5.zope.config import Config

_FAMILY = Question(frozenset({"family"}))
"""An empty one means all of them."""


def _do(config: Config, name: str, parameters: dict[str, str]) -> dict[str, Any]:
    from slapos.recipe.erp5.zope import peer_actions

    return peer_actions.do(config, name, parameters)


PEERS = Peers({"status": Question(frozenset()), "hold": _FAMILY, "release": _FAMILY, "restart": _FAMILY}, _do)
