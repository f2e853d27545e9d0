# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains of physical backups, a full one and the incrementals on it: what comes next, and what a restore needs.

Pure functions of the list and of what the server looks like now.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest
from slapos.recipe.erp5.mariadb.manifest import FULL, Entry


@dataclass(frozen=True)
class Server:
    """What an incremental has to agree with: the server's version, its database's identity and log sequence number."""

    version: str
    database: str
    lsn: int


@dataclass(frozen=True)
class Next:
    """The next backup: an incremental on `base`, or without one a full backup, because `reason`."""

    base: Entry | None
    reason: str = ""


def decide(entries: Iterable[Entry], server: Server, incrementals: int, full: bool = False) -> Next:
    """What to make next, from the good backups there are; `full` is what people ask for."""
    listed = tuple(entries)
    base = manifest.newest(listed)
    if full:
        return Next(None, "it was asked for")
    if base is None:
        return Next(None, "there is no backup to build on")
    assert base.physical
    if base.physical.database != server.database or base.physical.to_lsn > server.lsn:
        return Next(None, f"the database is not the one of {base.name}")
    if base.server_version != server.version:
        return Next(None, f"the server is {server.version}, that of {base.name} was {base.server_version}")
    if len(of(base, listed)) > incrementals:
        return Next(None, f"backup.physical.incrementals is {incrementals}")
    return Next(base)


def of(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """All that a restore of `entry` needs, the full backup first. Raises BackupError when one is not listed."""
    by_name = {one.name: one for one in entries}
    found = [entry]
    while base := _base(found[0]):
        if base not in by_name or len(found) > len(by_name):
            raise BackupError(f"{entry.name} needs {base}, which is not listed")
        found.insert(0, by_name[base])
    return tuple(found)


def whole(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries of which all that a restore needs is among them; any kind of backup."""
    listed = tuple(entries)
    return tuple(entry for entry in listed if _is_whole(entry, listed))


def _is_whole(entry: Entry, entries: tuple[Entry, ...]) -> bool:
    try:
        return bool(of(entry, entries))
    except BackupError:
        return False


def _base(entry: Entry) -> str:
    return entry.physical.base if entry.physical and entry.kind != FULL else ""
