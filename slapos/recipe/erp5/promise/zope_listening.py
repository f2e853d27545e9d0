# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: a Zope answers at each address of the partition; not there while its database is expected to be a backup."""

from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import listening, verdict
from slapos.recipe.erp5.zope.config import Config


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        return verdict.listening(listening.ask_all(config))
