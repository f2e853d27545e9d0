# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the published URLs of `database-list` work."""

from slapos.recipe.erp5.mariadb import accounts
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    def judge(self, config: Config) -> Verdict:
        return accounts.decide(accounts.gather(config))
