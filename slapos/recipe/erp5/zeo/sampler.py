# SPDX-License-Identifier: GPL-2.0-or-later
"""How the sampler looks at a ZEO server: nothing but the last look is kept."""

from datetime import datetime, timedelta

from slapos.recipe.erp5 import supervisor, times
from slapos.recipe.erp5.control import sampler
from slapos.recipe.erp5.control.sampler import Look, Sample
from slapos.recipe.erp5.zeo import status
from slapos.recipe.erp5.zeo.config import Config

GREETED_EVERY = timedelta(minutes=1)
"""How long a good answer is believed of the same process: each one leaves lines in the server's log."""


class Sight(sampler.Sight):
    """Looks at the server as the promise does."""

    subject = "the ZEO server"
    longest = status.TIMEOUT

    def __init__(self) -> None:
        self._answered: tuple[datetime, str, int] | None = None  # when, where, and by which process

    def look(self, config: Config, now: datetime) -> Look:
        supervised = supervisor.status(config.service)
        pid, before = supervised.child_pid if supervised else 0, self._answered
        believed = before and before[1:] == (config.address, pid) and timedelta(0) <= now - before[0] < GREETED_EVERY
        found = status.server(config, now, greet=not believed)
        if not believed:
            self._answered = None if found.silent else (now, config.address, pid)
        return Look(now, Sample(times.text(now)), found)
