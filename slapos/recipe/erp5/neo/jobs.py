# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of NEO's partitions: certificates where there is TLS, and a node's logs."""

from pathlib import Path

from slapos.recipe.erp5 import tls
from slapos.recipe.erp5.control.scheduler import Plan, python_command
from slapos.recipe.erp5.neo.config import ClusterConfig, NodeConfig

LOGS, LOGS_PERIOD = "log-rotation", "*/10 * * * *"
CERTIFICATES_PERIOD = "* * * * *"
"""How soon nodes know of a revocation, and clusters of each other's authorities."""
CERTIFICATES_PAUSE = 10.0
"""Seconds after a failure: nothing of a new cluster starts before it has certificates."""


def of_cluster(config: ClusterConfig, path: Path) -> tuple[Plan, ...]:
    """What `config`, read from `path`, asks for in the partition of a cluster."""
    return certificates("slapos.recipe.erp5.neo.renew_certificates", path) if config.tls else ()


def of_node(config: NodeConfig, path: Path) -> tuple[Plan, ...]:
    """The same in that of a node."""
    found = certificates("slapos.recipe.erp5.neo.node_certificates", path) if config.tls else ()
    return *found, Plan(LOGS, LOGS_PERIOD, python_command("slapos.recipe.erp5.neo.logs", "--config", str(path)))


def certificates(module: str, path: Path) -> tuple[Plan, ...]:
    """The program `module` renews what is due."""
    command = python_command(module, "--config", str(path))
    return (Plan(tls.JOB, CERTIFICATES_PERIOD, command, at_once=True, longest_pause=CERTIFICATES_PAUSE, quiet=True),)
