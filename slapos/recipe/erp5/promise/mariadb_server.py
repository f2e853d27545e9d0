# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: MariaDB answers on its socket and on its TCP addresses, and it is this partition's own."""

from slapos.recipe.erp5.mariadb import status, verdict
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    def judge(self, config: Config) -> Verdict:
        return verdict.server(status.server(config))
