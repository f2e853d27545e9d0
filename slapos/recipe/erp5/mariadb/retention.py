# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backups are no longer needed: pure functions of the list, the time and `retention-days`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import chain, manifest
from slapos.recipe.erp5.mariadb.manifest import Entry


def expired_chains(entries: Iterable[Entry], now: datetime, days: int) -> tuple[Entry, ...]:
    """The physical backups of chains of which every one is that old, never of the newest one's chain.

    So a base stays as long as an incremental that needs it. In the order in which they have to go: a chain without its
    end is still one.
    """
    backups = chain.whole(entries)
    gone = set(expired(backups, now, days))
    chains: dict[str, list[Entry]] = {}
    for entry in backups:
        chains.setdefault(chain.of(entry, backups)[0].name, []).append(entry)
    old = [entry for members in chains.values() if gone.issuperset(members) for entry in members]
    return tuple(sorted(old, key=lambda entry: len(chain.of(entry, backups)), reverse=True))


def expired(entries: Iterable[Entry], now: datetime, days: int) -> tuple[Entry, ...]:
    """The backups that were begun more than `days` days before `now`, never the newest one, however old it is."""
    backups = tuple(entries)
    newest, limit = manifest.newest(backups), now - timedelta(days=days)
    return tuple(entry for entry in backups if entry != newest and times.parse(entry.start) < limit)
