# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise: the database has the role that is asked for, a replica follows, and what replicas need is kept."""

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import replication_status, replication_verdict
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.promise.base import Promise
from slapos.recipe.erp5.verdict import Verdict


class RunPromise(Promise):
    """See the module's sentence; the option is Promise's."""

    def judge(self, config: Config) -> Verdict:
        now = times.now()
        return replication_verdict.replication(replication_status.gather(config, now), now)
