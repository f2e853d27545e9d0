# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes of its cluster leave on a node: `srv/role/state.json` of the node's partition."""

from dataclasses import dataclass

from slapos.recipe.erp5.neo.config import NodeConfig
from slapos.recipe.erp5.state_file import StateFile


@dataclass(frozen=True)
class NodeFence:
    """The master of this node stays stopped: `by` whom, why, since when (times.py)."""

    by: str
    reason: str
    at: str


@dataclass(frozen=True)
class NodeRole:
    """All of it; `followed` is the last rejoin (its id) that was carried out here."""

    fenced: NodeFence | None = None
    followed: str = ""


def of(config: NodeConfig) -> StateFile[NodeRole]:
    """The state of the node's partition."""
    return StateFile(config.path("srv", "role", "state.json"), NodeRole)
