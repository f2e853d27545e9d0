# SPDX-License-Identifier: GPL-2.0-or-later
"""A ZEO server as control/ knows it: backups and logs on a schedule, a page and metrics; no actions.

What is large is imported when it is asked for: the process should not hold it while it is idle.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import PROGRAMS, Config

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from slapos.recipe.erp5.control.actions import Action
    from slapos.recipe.erp5.control.face import Face
    from slapos.recipe.erp5.control.sampler import Sampler, Sight
    from slapos.recipe.erp5.control.scheduler import Plan
    from slapos.recipe.erp5.zeo.facts import Facts


class Zeo(Service[Config, "Facts"]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/zeo.json"
    about = "a ZEO server and its backups"
    actions_module = ""
    actions: Mapping[str, "Action"] = {}

    def load(self, path: str | Path) -> Config:
        return configuration.load(path)

    def plans(self, config: Config, path: Path) -> tuple["Plan", ...]:
        from slapos.recipe.erp5.zeo import jobs

        return jobs.plans(config, path)

    def prepare(self, config: Config) -> None:
        from slapos.recipe.erp5.zeo import jobs

        jobs.prepare(config)

    def sight(self) -> "Sight":
        from slapos.recipe.erp5.zeo import sampler

        return sampler.Sight()

    def facts(self, config: Config, sampler: "Sampler", now: datetime) -> "Facts":
        from slapos.recipe.erp5.zeo import facts

        return facts.gather(config, sampler, now)

    def face(self, facts: "Facts") -> "Face":
        from slapos.recipe.erp5.zeo import face

        return face.of(facts)

    def metrics(self, facts: "Facts") -> Iterable["Metric"]:
        from slapos.recipe.erp5.zeo import metrics

        return metrics.of(facts)


SERVICE = Zeo()
