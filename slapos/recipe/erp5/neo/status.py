# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers how a NEO cluster, and how a node of it, stands right now. It judges nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import supervisor
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.neo import node_role, role_state
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig, MySQL, NodeConfig, Upstream
from slapos.recipe.erp5.neo.node_role import NodeFence
from slapos.recipe.erp5.neo.role_state import RoleState
from slapos.recipe.erp5.supervisor import Service, Supervised

TIMEOUT = 5.0
"""Seconds that one cluster has to answer; a promise, which asks all of them at once, is killed after 20."""


@dataclass(frozen=True)
class Snapshot:
    """A cluster as its admins tell at the moment `at`; `backups` are the backups of it that are watched, by name.

    `role` is what changes of its role have left, `acting` that one is at work. Without masters, which are not known
    yet, nobody was asked.
    """

    config: ClusterConfig
    at: datetime
    status: Status
    backups: tuple[tuple[str, Status], ...] = ()
    role: RoleState = RoleState()
    acting: bool = False

    @property
    def upstream(self) -> Upstream | None:
        """What the cluster is, or was last, a backup of: by a rejoin, or by its creation."""
        return self.role.upstream or self.config.upstream


@dataclass(frozen=True)
class ServiceStatus:
    """A process of a node: `supervised` is None when no supervisor runs; `lost` is the database that it should have."""

    service: Service
    supervised: Supervised | None
    lost: str = ""


@dataclass(frozen=True)
class NodeSnapshot:
    """A node's processes at the moment `at`; its master is not to run while it is `fenced`.

    `silent`: why nobody can log in to the server that its storages need; empty when somebody can, or they need none.
    `upstream_partitions` is the number of partitions that the upstream has where it is another one than ours.
    """

    config: NodeConfig
    at: datetime
    services: tuple[ServiceStatus, ...]
    fenced: NodeFence | None = None
    silent: str = ""
    upstream_partitions: int | None = None


def gather(config: ClusterConfig, now: datetime) -> Snapshot:
    """Ask the cluster and the watched backups of it, all at once. Raises ServerError, ConfigurationError."""
    watched = config.monitor.backup_clusters
    asked = [(config.cluster, config.admins), *((one.cluster, tuple(one.admins.split())) for one in watched)]
    role, acting = role_state.of(config).load(), action.current(config) is not None
    if not config.masters:
        return Snapshot(config, now, Status(reason="its addresses are not known yet"), role=role, acting=acting)
    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(lambda one: ask(config, *one), asked))
    names = [one.cluster for one in watched]
    return Snapshot(config, now, found[0], tuple(zip(names, found[1:], strict=True)), role, acting)


def ask(config: ClusterConfig, cluster: str, admins: tuple[str, ...]) -> Status:
    """How a cluster stands, this one or another. Raises ServerError."""
    with asker(config, cluster, admins) as asking:
        return asking.status()


def asker(config: ClusterConfig, cluster: str = "", admins: tuple[str, ...] = (), timeout: float = TIMEOUT) -> Asker:
    """What asks a cluster and tells it to change: this one, unless another one is named."""
    python, script = Path(config.software.program("python")), Path(config.software.ask_script)
    return Asker(
        python, script, cluster or config.cluster, admins or config.admins, tls=config.tls_files, timeout=timeout
    )


def node(config: NodeConfig, now: datetime) -> NodeSnapshot:
    """Look at a node's processes. Raises ConfigurationError."""
    return NodeSnapshot(
        config,
        now,
        tuple(service(config, name) for name in config.services),
        node_role.of(config).load().fenced,
        silent=silence(config.mysql) if config.mysql else "",
        upstream_partitions=upstream_partitions(config),
    )


def upstream_partitions(config: NodeConfig) -> int | None:
    """How many partitions the upstream has, as the master has noted because it cannot follow it; else None."""
    try:
        return int(config.upstream_partitions.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def silence(server: MySQL) -> str:
    """Why nobody can log in to a node's server, empty when somebody can. A look without a login would fill its log."""
    try:
        sql.connect(server.defaults_file, server.socket, TIMEOUT).close()
    except Error as error:
        return str(error)
    return ""


def service(config: NodeConfig, name: str) -> ServiceStatus:
    """Look at the process `name`, and at its database where it is a storage."""
    lost = config.set_up(name).exists() and not config.has_database(name)
    supervised = supervisor.status(config.service(name))
    return ServiceStatus(config.service(name), supervised, str(config.database(name)) if lost else "")
