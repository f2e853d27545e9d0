# SPDX-License-Identifier: GPL-2.0-or-later
"""MariaDB as control/ knows it: what its control process, its page and its actions are made of.

What is large is imported when it is asked for: neither an action nor the process while it is idle should hold the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slapos.recipe.erp5.control.service import Attempt, Keeper, Service, Tending
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import peers, role_state
from slapos.recipe.erp5.mariadb.config import PROGRAMS, Config

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from slapos.recipe.erp5.control.actions import Action
    from slapos.recipe.erp5.control.face import Face
    from slapos.recipe.erp5.control.sampler import Sampler, Sight
    from slapos.recipe.erp5.control.scheduler import Plan
    from slapos.recipe.erp5.control.web import Endpoint
    from slapos.recipe.erp5.mariadb.facts import Facts


class MariaDB(Service[Config, "Facts"]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/mariadb.json"
    about = "a MariaDB database and its role"
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

    @property
    def actions(self) -> Mapping[str, "Action"]:
        from slapos.recipe.erp5.mariadb.actions import ACTIONS

        return ACTIONS

    def sight(self) -> "Sight":
        from slapos.recipe.erp5.mariadb import sampler

        return sampler.Sight()

    def facts(self, config: Config, sampler: "Sampler", now: datetime) -> "Facts":
        from slapos.recipe.erp5.mariadb import facts

        return facts.gather(config, sampler, now)

    def face(self, facts: "Facts") -> "Face":
        from slapos.recipe.erp5.mariadb import face

        return face.of(facts)

    def metrics(self, facts: "Facts") -> Iterable["Metric"]:
        from slapos.recipe.erp5.mariadb import metrics

        return metrics.of(facts)


SERVICE = MariaDB()
