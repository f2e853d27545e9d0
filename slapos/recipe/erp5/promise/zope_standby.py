# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the Zopes of a partition serve when their database does; else it says what they wait for."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import listening, standby_state, verdict
from slapos.recipe.erp5.zope.config import Config


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        standing = standby_state.status(config.run)
        states = {zope.name: zope.state for zope in standing.zopes} if standing else {}
        answers = listening.ask_all(config, states)
        return verdict.standby(config, standing, times.now(), answers, listening.silence_of_zeo(config))
