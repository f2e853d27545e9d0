# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backups are no longer needed: a pure function of the list, the time and `retention-days`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.manifest import Entry


def expired(entries: Iterable[Entry], now: datetime, days: int) -> tuple[Entry, ...]:
    """The backups that were begun more than `days` days before `now`, never the newest one, however old it is."""
    backups = tuple(entries)
    newest, limit = manifest.newest(backups), now - timedelta(days=days)
    return tuple(entry for entry in backups if entry != newest and times.parse(entry.start) < limit)
