# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster as control/ knows it: what its control process, its page and its actions are made of.

What is large is imported when it is asked for: neither an action nor the process while it is idle should hold the rest.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5.control.service import Attempt, Service
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import peers, role_state
from slapos.recipe.erp5.neo.config import PROGRAMS, ClusterConfig

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.scheduler import Plan


class NeoCluster(Service[ClusterConfig, Any]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/neo.json"
    about = "a NEO cluster and its role"
    package = "slapos.recipe.erp5.neo"
    actions_module = "slapos.recipe.erp5.neo.actions"
    peers = peers.OF_CLUSTER
    steady = frozenset({"fence-old-primary", "enforce-fence"})  # two primaries may be at work until it is done

    def load(self, path: str | Path) -> ClusterConfig:
        return configuration.load_cluster(path)

    def plans(self, config: ClusterConfig, path: Path) -> tuple["Plan", ...]:
        from slapos.recipe.erp5.neo import jobs

        return jobs.of_cluster(config, path)

    def is_open(self, config: ClusterConfig) -> bool:
        state = role_state.of(config).load()
        return bool(state.promotion or state.rejoin or state.fence_pending or (state.fenced and state.fenced.undone))

    def watch(self, config: ClusterConfig, now: datetime, attempt: Attempt) -> None:
        from slapos.recipe.erp5.neo import watch  # with all that changes roles

        watch.look_on(config, attempt)


SERVICE = NeoCluster()
