# SPDX-License-Identifier: GPL-2.0-or-later
"""MariaDB as control/ knows it: what its control process, its page and its actions are made of.

What is large is imported when it is asked for: neither an action nor the process while it is idle should hold the rest.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5.control.service import Attempt, Keeper, Service, Tending
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import peers, role_state
from slapos.recipe.erp5.mariadb.config import PROGRAMS, Config

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.scheduler import Plan
    from slapos.recipe.erp5.control.web import Endpoint


class MariaDB(Service[Config, Any]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/mariadb.json"
    about = "a MariaDB database and its role"
    package = "slapos.recipe.erp5.mariadb"
    actions_module = "slapos.recipe.erp5.mariadb.actions"
    peers = peers.PEERS
    steady = frozenset({"fence-old-primary"})  # two primaries may be at work until it is done

    def load(self, path: str | Path) -> Config:
        return configuration.load(path)

    def plans(self, config: Config, path: Path) -> tuple["Plan", ...]:
        from slapos.recipe.erp5.mariadb import jobs

        return jobs.plans(config, path)

    def prepare(self, config: Config) -> None:
        from slapos.recipe.erp5.mariadb import jobs

        jobs.prepare(config)

    def tending(self, config: Config) -> Tending[Config]:
        from slapos.recipe.erp5.mariadb.network import Network

        return Network(config)

    def threads(self) -> Mapping[str, Keeper]:
        from slapos.recipe.erp5.mariadb import semi_sync

        return {"semi-sync": semi_sync.keep}

    def endpoints(self, path: Path) -> Sequence["Endpoint"]:
        from slapos.recipe.erp5.mariadb import web

        return web.endpoints(path)

    def is_open(self, config: Config) -> bool:
        state = role_state.load(config)
        return any((state.hand_over, state.promotion, state.fence_pending, state.fenced))

    def watch(self, config: Config, now: datetime, attempt: Attempt) -> None:
        from slapos.recipe.erp5.mariadb import watch  # with all that changes roles

        watch.look(config, now, attempt)


SERVICE = MariaDB()
