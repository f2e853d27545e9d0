# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the certificate of a partition's Zopes, as clients of a NEO cluster with TLS, is renewed in time."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.tls import verdict
from slapos.recipe.erp5.verdict import Verdict
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import tls
from slapos.recipe.erp5.zope.config import Config


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    load = staticmethod(configuration.load)

    def judge(self, config: Config) -> Verdict:
        now = times.now()
        return verdict.certificates(tls.status(config, now), now)
