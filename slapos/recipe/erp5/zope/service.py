# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition of Zopes as control/ knows it: what its control process, its page and its actions are made of.

What is large is imported when it is asked for: neither an action nor the process while it is idle should hold the rest.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import peers
from slapos.recipe.erp5.zope.config import PROGRAMS, Config

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.scheduler import Plan


class Zopes(Service[Config, Any]):
    """See Service."""

    prefix = PROGRAMS
    json = "etc/zope.json"
    about = "the Zopes of a partition"
    package = "slapos.recipe.erp5.zope"
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


SERVICE = Zopes()
