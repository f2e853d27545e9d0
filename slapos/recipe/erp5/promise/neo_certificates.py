# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the certificates of a NEO cluster's partition, which it asks the cluster with, are renewed in time."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.config import ClusterConfig
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.tls import status, verdict
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load_cluster)

    def judge(self, config: ClusterConfig) -> Verdict:
        now = times.now()
        return verdict.certificates(status.gather(tls.Certificates(tls.authority(config)), now), now)
