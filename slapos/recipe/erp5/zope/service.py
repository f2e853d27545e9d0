# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition of Zopes as control/ knows it: what its control process, its page and its actions are made of.

What is large is imported when it is asked for: neither an action nor the process while it is idle should hold the rest.
"""

import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import peers
from slapos.recipe.erp5.zope.config import PROGRAMS, Config

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from slapos.recipe.erp5.control.actions import Action
    from slapos.recipe.erp5.control.face import Face
    from slapos.recipe.erp5.control.sampler import Sampler, Sight
    from slapos.recipe.erp5.control.scheduler import Plan
    from slapos.recipe.erp5.zope.facts import Facts


class Zopes(Service[Config, "Facts"]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/zope.json"
    about = "the Zopes of a partition"
    actions_module = "slapos.recipe.erp5.zope.actions"
    peers = peers.PEERS

    def load(self, path: str | Path) -> Config:
        return configuration.load(path)

    def plans(self, config: Config, path: Path) -> tuple["Plan", ...]:
        from slapos.recipe.erp5.zope import jobs

        return jobs.of_zope(config, path)

    def prepare(self, config: Config) -> None:
        """Zopes that are not asked for any more leave a folder, with a password in it."""
        names = {zope.name for zope in config.zopes}
        for home in config.homes.glob("*"):
            if home.name not in names:
                shutil.rmtree(home, ignore_errors=True)

    @property
    def actions(self) -> Mapping[str, "Action"]:
        from slapos.recipe.erp5.zope.actions import ACTIONS

        return ACTIONS

    def sight(self) -> "Sight":
        from slapos.recipe.erp5.zope import sampler

        return sampler.Sight()

    def facts(self, config: Config, sampler: "Sampler", now: datetime) -> "Facts":
        from slapos.recipe.erp5.zope import facts

        return facts.gather(config, sampler, now)

    def face(self, facts: "Facts") -> "Face":
        from slapos.recipe.erp5.zope import face

        return face.of(facts)

    def metrics(self, facts: "Facts") -> Iterable["Metric"]:
        from slapos.recipe.erp5.zope import metrics

        return metrics.of(facts)


SERVICE = Zopes()
