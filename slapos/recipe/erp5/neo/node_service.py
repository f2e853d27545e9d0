# SPDX-License-Identifier: GPL-2.0-or-later
"""A node of a NEO cluster as control/ knows it: it rotates logs, and does what its cluster asks; no page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import peers
from slapos.recipe.erp5.neo.config import NODE_PROGRAMS, NodeConfig

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.scheduler import Plan

LOGS, LOGS_PERIOD = "log-rotation", "*/10 * * * *"


class NeoNode(Service[NodeConfig, Any]):
    """See Service."""

    prefix = NODE_PROGRAMS
    json = "etc/neo-node.json"
    about = "a node of a NEO cluster"
    has_page = False
    peers = peers.OF_NODE

    def load(self, path: str | Path) -> NodeConfig:
        return configuration.load_node(path)

    def plans(self, config: NodeConfig, path: Path) -> tuple["Plan", ...]:
        from slapos.recipe.erp5.control.scheduler import Plan, python_command

        command = python_command("slapos.recipe.erp5.neo.logs", "--config", str(path))
        return (Plan(LOGS, LOGS_PERIOD, command),)


SERVICE = NeoNode()
