# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the newest backup of each kind is younger than its period allows, and the scheduler is alive."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import status, verdict
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    def judge(self, config: Config) -> Verdict:
        return verdict.backups(status.backups(config), times.now())
