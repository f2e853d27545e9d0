# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: an ERP5 instance has all the instances that it asked for, and is what its parameters ask for."""

from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.root import config as configuration
from slapos.recipe.erp5.root import verdict
from slapos.recipe.erp5.root.config import Config
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        return verdict.complete(config)
