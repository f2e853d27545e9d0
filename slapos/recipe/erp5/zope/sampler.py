# SPDX-License-Identifier: GPL-2.0-or-later
"""How the sampler looks at the Zopes of a partition: their standby supervisor has written down how they stand."""

from datetime import datetime

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import sampler
from slapos.recipe.erp5.control.sampler import Look, Sample
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config


class Sight(sampler.Sight):
    """Reads a file; a look's `status` is a Standing, None without a supervisor."""

    subject = "the Zopes"
    longest = 5.0

    def look(self, config: Config, now: datetime) -> Look:
        return Look(now, Sample(times.text(now)), standby_state.status(config.run))
