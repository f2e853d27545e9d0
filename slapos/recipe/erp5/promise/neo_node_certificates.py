# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: a NEO node's certificate is renewed in time, and is what its processes really show."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.config import NodeConfig
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.tls import verdict
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load_node)

    def judge(self, config: NodeConfig) -> Verdict:
        now = times.now()
        return verdict.certificates(tls.node_status(config, now), now)
