# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: certificates and revocation lists are renewed in time, and are what the servers really show."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.tls import status, verdict
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    def judge(self, config: Config) -> Verdict:
        now = times.now()
        return verdict.certificates(status.gather(Certificates(config), now), now)
