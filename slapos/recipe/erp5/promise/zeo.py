# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the ZEO server answers, has all its databases, and has not died lately."""

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
        return verdict.server(status.server(config, times.now()))
