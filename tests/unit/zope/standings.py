# SPDX-License-Identifier: GPL-2.0-or-later
"""How the Zopes of test_instance.py's partition stand, for unit tests: web-0 and web-1, on the NEO cluster main."""

from datetime import UTC, datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.supervisor import Ended
from slapos.recipe.erp5.zope.standby_decide import RUNNING, SERVING
from slapos.recipe.erp5.zope.standby_state import Database, Standing, Zope

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVES = "its database serves"
HOLDS = "it is held back until somebody releases it"
BACKUP = "the NEO cluster main is BACKINGUP, a replica that serves nobody until it is taken over"


def ago(seconds: float) -> str:
    return times.text(NOW - timedelta(seconds=seconds))


def zope(name: str = "web-0", state: str = SERVING, reason: str = SERVES, since: float = 3600, **fields) -> Zope:
    """In a state since so many seconds."""
    child = 7 if state == SERVING else 0
    known = {"next_start": "", "child_pid": child, "child_began": "1", "ends": ()} | fields
    return Zope(name, name.rpartition("-")[0], 14000, state, reason, ago(since), **known)


def standing(*zopes: Zope, state: str = RUNNING, since: float = 3600, detail: str = "", held=()) -> Standing:
    """All of a partition, whose database is in a state since so many seconds."""
    database = Database("the NEO cluster main", state, detail, ago(since))
    return Standing(7, database, tuple(held), True, zopes, ())


def killed(seconds: float) -> Ended:
    """An end so many seconds ago."""
    return Ended(ago(seconds), "was killed by SIGKILL", 42.0)
