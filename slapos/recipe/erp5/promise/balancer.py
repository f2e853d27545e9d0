# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: haproxy answers, and each family has a Zope that serves or stands by."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.balancer import config as configuration
from slapos.recipe.erp5.balancer import status, verdict
from slapos.recipe.erp5.balancer.config import Config
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        return verdict.balancer(status.gather(config, times.now()))
