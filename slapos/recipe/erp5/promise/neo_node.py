# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: all processes of a NEO node run, and have not died lately."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import status, verdict
from slapos.recipe.erp5.neo.config import NodeConfig
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load_node)

    def judge(self, config: NodeConfig) -> Verdict:
        return verdict.node(status.node(config, times.now()))
