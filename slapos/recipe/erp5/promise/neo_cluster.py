# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: a NEO cluster is what it was created to be, follows its upstream, and has all its nodes."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import status, verdict
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load_cluster)

    def judge(self, config: ClusterConfig) -> Verdict:
        return verdict.cluster(status.gather(config, times.now()))
