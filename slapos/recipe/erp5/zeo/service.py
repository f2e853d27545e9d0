# SPDX-License-Identifier: GPL-2.0-or-later
"""A ZEO server as control/ knows it: backups and logs on a schedule, a page and metrics; no actions.

What is large is imported when it is asked for: the process should not hold it while it is idle.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import PROGRAMS, Config

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.actions import Action
    from slapos.recipe.erp5.control.scheduler import Plan


class Zeo(Service[Config, Any]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/zeo.json"
    about = "a ZEO server and its backups"
    package = "slapos.recipe.erp5.zeo"
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


SERVICE = Zeo()
