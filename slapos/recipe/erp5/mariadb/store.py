# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of logical backups: what enters it, what leaves it, and what a killed run may have left behind.

Every function that changes something is to be called under `lock()`.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest, offer, retention
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import Entry


@contextlib.contextmanager
def lock(config: Config) -> Iterator[None]:
    """One at a time in a partition. Raises Busy at once when another holds it."""
    busy = f"another backup of {config.instance} is running: wait for its end, and run this again if you still need to"
    path = config.path("var", "run", "mariadb-backup.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with process.lock(path, busy):
        yield


def partial(config: Config) -> Path:
    """Where a backup grows: beside the folder of the good ones, on the same filesystem, never offered."""
    return config.dumps.with_name(config.dumps.name + ".partial")


def settle(config: Config) -> tuple[Entry, ...]:
    """Remove what killed runs left, forget listed files that are gone, and return the good backups that remain.

    Raises BackupError when the manifest cannot be used, and OSError.
    """
    config.dumps.mkdir(mode=0o700, parents=True, exist_ok=True)
    listed = manifest.load(config.dumps)
    _remove_left_overs(config, {entry.name for entry in listed})
    good = tuple(entry for entry in listed if _is_there(config, entry))
    if good != listed:
        manifest.save(config.dumps, good)
    offer.update(config)
    return good


def begin(config: Config) -> Path:
    """An empty folder for a growing backup."""
    folder = partial(config)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def discard(config: Config) -> None:
    """Remove the growing backup, if there is one, and its file in the folder when it did not come to be listed."""
    with contextlib.suppress(BackupError):  # a list that cannot be used says nothing about what is ours
        _remove_left_overs(config, {entry.name for entry in manifest.load(config.dumps)})
    shutil.rmtree(partial(config), ignore_errors=True)


def add(config: Config, entry: Entry) -> Entry:
    """Take the complete file `entry.name` over from the partial folder and list it; return it as it is listed."""
    growing = partial(config) / entry.name
    entry = dataclasses.replace(entry, name=_unique(config, entry.name))
    if growing.name != entry.name:
        growing = growing.rename(growing.with_name(entry.name))
    # A link, and the partial file goes last: killed before the list is written, the next settle() knows it as ours.
    os.link(growing, config.dumps / entry.name)
    process.sync_directory(config.dumps)
    manifest.save(config.dumps, (*manifest.load(config.dumps), entry))
    shutil.rmtree(partial(config))
    return entry


def expire(config: Config, now: datetime) -> tuple[Entry, ...]:
    """Offer what is listed, and remove the backups that are no longer needed; return those."""
    offer.update(config)
    entries = manifest.load(config.dumps)
    gone = retention.expired(entries, now, config.backup.logical.retention_days)
    # Files first: killed in between, a list that names a missing file is mended by settle(), an unlisted file never.
    for entry in gone:
        (config.dumps / entry.name).unlink(missing_ok=True)
    if gone:
        manifest.save(config.dumps, [entry for entry in entries if entry not in gone])
        offer.update(config)
    return gone


def _remove_left_overs(config: Config, listed: set[str]) -> None:
    folder = partial(config)
    if folder.is_dir():
        for path in folder.iterdir():
            target = config.dumps / path.name
            if path.name not in listed and target.exists() and target.samefile(path):
                target.unlink()
        shutil.rmtree(folder)
    for path in config.dumps.glob(f".{manifest.FILE}.*"):
        path.unlink(missing_ok=True)


def _is_there(config: Config, entry: Entry) -> bool:
    path = config.dumps / entry.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        process.log(f"{path} is listed but gone: it is listed no longer")
        return False
    if size != entry.size:
        process.log(f"{path} has {size} bytes, not the {entry.size} that were written: it is listed no longer")
    return size == entry.size


def _unique(config: Config, name: str) -> str:
    """`name`, or with the first of -1, -2, ... that no file has when somebody already has it."""
    stem, dot, suffix = name.partition(".")
    names = (name, *(f"{stem}-{number}{dot}{suffix}" for number in range(1, 1000)))
    return next(candidate for candidate in names if not (config.dumps / candidate).exists())
