# SPDX-License-Identifier: GPL-2.0-or-later
"""The folders of backups: what enters one, what leaves it, and what a killed run may have left behind.

Every function that changes something is to be called under `lock()`.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import chain, manifest, offer, retention
from slapos.recipe.erp5.mariadb.config import Config, LogicalBackup, PhysicalBackup
from slapos.recipe.erp5.mariadb.manifest import Entry


@dataclasses.dataclass(frozen=True)
class Store:
    """Where one kind of backup lies: `kind` is `logical` or `physical`, `schedule` the parameter of that name.

    `program` makes one now, and `rule` says which are no longer needed (a function of retention.py).
    """

    config: Config
    kind: str
    folder: Path
    schedule: LogicalBackup | PhysicalBackup
    program: str
    rule: Callable[[Iterable[Entry], datetime, int], tuple[Entry, ...]]

    @property
    def parameter(self) -> str:
        """What people call it in the instance's parameters."""
        return f"backup.{self.kind}"

    @property
    def job(self) -> str:
        """Its name for the scheduler."""
        return f"{self.kind}-backup"

    @property
    def partial(self) -> Path:
        """Where a backup grows: beside the folder of the good ones, on the same filesystem, never offered."""
        return self.folder.with_name(self.folder.name + ".partial")


def logical(config: Config) -> Store:
    """The dumps."""
    program = "bin/mariadb-dump-script"
    return Store(config, "logical", config.dumps, config.backup.logical, program, retention.expired)


def physical(config: Config) -> Store:
    """The full and incremental copies of the data directory."""
    program, schedule = "bin/mariadb-physical-backup-script", config.backup.physical
    return Store(config, "physical", config.physical_backups, schedule, program, retention.expired_chains)


def all_of(config: Config) -> tuple[Store, ...]:
    """The stores of all kinds."""
    return logical(config), physical(config)


@contextlib.contextmanager
def lock(config: Config) -> Iterator[None]:
    """One at a time in a partition. Raises Busy at once when another holds it."""
    busy = f"another backup of {config.instance} is running: wait for its end, and run this again if you still need to"
    path = config.path("var", "run", "mariadb-backup.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with process.lock(path, busy):
        yield


def settle(where: Store) -> tuple[Entry, ...]:
    """Remove what killed runs left, forget listed files that are gone, and return the good backups that remain.

    Raises BackupError when the manifest cannot be used, and OSError.
    """
    where.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    listed = manifest.load(where.folder)
    _remove_left_overs(where, {entry.name for entry in listed})
    good = _usable(tuple(entry for entry in listed if _is_there(where, entry)))
    if good != listed:
        manifest.save(where.folder, good)
    offer.update(where.config)
    return good


def begin(where: Store) -> Path:
    """An empty folder for a growing backup."""
    folder = where.partial
    folder.mkdir(mode=0o700, parents=True)
    return folder


def discard(where: Store) -> None:
    """Remove the growing backup, if there is one, and its file in the folder when it did not come to be listed."""
    with contextlib.suppress(BackupError):  # a list that cannot be used says nothing about what is ours
        _remove_left_overs(where, {entry.name for entry in manifest.load(where.folder)})
    shutil.rmtree(where.partial, ignore_errors=True)


def add(where: Store, entry: Entry) -> Entry:
    """Take the complete file `entry.name` over from the partial folder and list it; return it as it is listed."""
    growing = where.partial / entry.name
    entry = dataclasses.replace(entry, name=_unique(where, entry.name))
    if growing.name != entry.name:
        growing = growing.rename(growing.with_name(entry.name))
    # A link, and the partial file goes last: killed before the list is written, the next settle() knows it as ours.
    os.link(growing, where.folder / entry.name)
    process.sync_directory(where.folder)
    manifest.save(where.folder, (*manifest.load(where.folder), entry))
    shutil.rmtree(where.partial)
    return entry


def expire(where: Store, now: datetime) -> tuple[Entry, ...]:
    """Offer what is listed, and remove the backups that are no longer needed; return those."""
    offer.update(where.config)
    entries = manifest.load(where.folder)
    gone = where.rule(entries, now, where.schedule.retention_days)
    # Files first: killed in between, a list that names a missing file is mended by settle(), an unlisted file never.
    for entry in gone:
        (where.folder / entry.name).unlink(missing_ok=True)
    if gone:
        manifest.save(where.folder, [entry for entry in entries if entry not in gone])
        offer.update(where.config)
    return gone


def _remove_left_overs(where: Store, listed: set[str]) -> None:
    folder = where.partial
    if folder.is_dir():
        for path in folder.iterdir():
            target = where.folder / path.name
            if path.name not in listed and target.exists() and target.samefile(path):
                target.unlink()
        shutil.rmtree(folder)
    for path in where.folder.glob(f".{manifest.FILE}.*"):
        path.unlink(missing_ok=True)


def _usable(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Without the incrementals that lack what they continue."""
    good = chain.whole(entries)
    for entry in entries:
        if entry not in good:
            process.log(f"{entry.name} continues a backup that is no longer listed: it is listed no longer")
    return good


def _is_there(where: Store, entry: Entry) -> bool:
    path = where.folder / entry.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        process.log(f"{path} is listed but gone: it is listed no longer")
        return False
    if size != entry.size:
        process.log(f"{path} has {size} bytes, not the {entry.size} that were written: it is listed no longer")
    return size == entry.size


def _unique(where: Store, name: str) -> str:
    """`name`, or with the first of -1, -2, ... that no file has when somebody already has it."""
    stem, dot, suffix = name.partition(".")
    names = (name, *(f"{stem}-{number}{dot}{suffix}" for number in range(1, 1000)))
    return next(candidate for candidate in names if not (where.folder / candidate).exists())
