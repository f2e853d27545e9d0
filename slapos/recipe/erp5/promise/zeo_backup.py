# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the last good backup of each storage is younger than its period allows, and the scheduler is alive."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo import status, verdict
from slapos.recipe.erp5.zeo.config import Config


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        return verdict.backups(status.snapshot(config, times.now()))
