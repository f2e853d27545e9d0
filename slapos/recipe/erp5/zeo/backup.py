# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-backup-now: has repozo add to the backups of each storage what is new, or make a full one; all is proved.

The server need not run, nor is it asked: repozo reads the file up to its last complete transaction.
"""

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, Busy, CommandError, Error
from slapos.recipe.erp5.words import size_text
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo import repository
from slapos.recipe.erp5.zeo.config import Config
from slapos.recipe.erp5.zeo.repository import Chain

ATTEMPTS = 3
"""How often a backup is begun anew because the database was packed meanwhile."""
LEAST = 1 << 20
"""Free bytes wanted for whatever is added."""
GROWTH = 1.25
"""A full backup against the one before."""


@contextlib.contextmanager
def alone(config: Config) -> Iterator[None]:
    """Raises Busy at once when another backup, or a restore, is under way."""
    busy = f"another backup of {config.instance}, or a restore, is running: wait for its end"
    path = config.path("var", "run", "zeo-backup.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with process.lock(path, busy):
        yield


def make_all(config: Config, full: bool = False) -> None:
    """A backup of each storage; one that fails keeps no other from its own. Raises Busy, BackupError."""
    failed = []
    with alone(config):
        for storage in config.storages:
            if not config.has_database(storage) and not config.set_up(storage).exists():
                raise Busy(f"there is no database of {storage} yet: the server makes it at its start")
        for storage in config.storages:
            try:
                make(config, storage, full)
            except (Error, OSError) as error:
                failed.append(f"no backup of {storage} was made, {process.describe(error)}")
    if failed:
        raise BackupError("; ".join(failed) + "; the earlier ones stay as they are")


def make(config: Config, storage: str, full: bool) -> None:
    """One backup, listed when it is proved and on the disk. Raises Error, OSError."""
    if not config.has_database(storage):
        raise BackupError(f"{config.database(storage)} is not there, expected the database that was made once")
    folder = config.backups(storage)
    try:
        _make(config, storage, repository.settle(folder), full)
    finally:
        repository.discard(folder)
    _expire(config, storage)


def _make(config: Config, storage: str, found: tuple[Chain, ...], full: bool) -> None:
    folder, newest = config.backups(storage), found[-1] if found else None
    if newest and (reason := repository.damage(newest)):
        process.log(f"{reason}: a full backup is made")
        newest = None
    start = times.now()
    if full or repository.is_full_due(newest, start, config.backup.retention_days):
        newest = None
    check_space(config, storage, found, newest)
    if newest:
        wait_for_the_next_second(newest.pieces[-1].at)
    try:
        made = _grow(config, storage, newest)
    except CommandError as error:
        if newest is None or "No space left" in str(error):
            raise
        process.log(f"{error}: a full backup is made in its place")
        newest = None
        made = _grow(config, storage, newest)
    if made:
        repository.verify(made.pieces[-1])
        new = repository.add(folder, made, newest)
        repository.settle(folder)
        _tell(storage, new)
    else:
        process.log(f"{storage}: nothing is new since the last backup")
    repository.note(folder, start)


def _tell(storage: str, new: Chain) -> None:
    piece = new.pieces[-1]
    kind = "full backup" if len(new.pieces) == 1 else "addition"
    size = size_text(piece.path.stat().st_size)
    process.log(f"{storage}: {kind} {new.folder.name}/{piece.path.name} made, {size}")


def _grow(config: Config, storage: str, newest: Chain | None) -> Chain | None:
    """What repozo makes of the database as it is now, None when nothing is new. Raises CommandError, BackupError.

    A pack puts another file in its place. Repozo, which opens it several times, may then have the length of the one and
    the bytes of the other.
    """
    folder, database = config.backups(storage), config.database(storage)
    for _ in range(ATTEMPTS):
        before = identity(database)
        growing = repository.begin(folder, newest)
        words = (config.software.program("repozo"), "-B", "-z", "-r", growing, "-f", database)
        with process.step(f"back up {database}"):
            process.run([*words, *(() if newest else ("-F",))], f"back up {database}")
        if identity(database) == before:
            return repository.grown(folder, newest)
        process.log(f"{database} was packed meanwhile: begin anew")
        repository.discard(folder)
    raise BackupError(f"{database} was packed {ATTEMPTS} times while it was read, expected a pack now and then")


def identity(database: Path) -> tuple[int, int] | None:
    """Tells a file from the one that a pack puts in its place; None for a moment in between."""
    try:
        status = database.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def wait_for_the_next_second(last: datetime) -> None:
    """Until what is made from now on has another moment in its name, which repozo goes by when it restores."""
    while times.now() < last + timedelta(seconds=1):
        time.sleep(0.05)


def needed(size: int, found: tuple[Chain, ...], continued: Chain | None) -> int:
    """Bytes that a backup of a database of `size` bytes takes at most, as far as can be told."""
    if continued:
        return max(size - continued.end, 0) + LEAST
    full = found[-1].pieces[0] if found else None
    return round(full.path.stat().st_size * GROWTH if full and full.path.exists() else size) + LEAST


def check_space(config: Config, storage: str, found: tuple[Chain, ...], continued: Chain | None) -> None:
    """Raise BackupError when the backup is not going to fit, even without what retention no longer keeps."""
    folder = config.backups(storage)
    wanted = needed(config.database(storage).stat().st_size, found, continued)
    if shutil.disk_usage(folder).free < wanted:
        _expire(config, storage)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise BackupError(
            f"{size_text(free)} are free in {folder}, and it takes up to {size_text(wanted)}: free disk space or lower"
            " backup.retention-days"
        )


def _expire(config: Config, storage: str) -> None:
    folder, days = config.backups(storage), config.backup.retention_days
    for old in repository.expired(repository.chains(folder), times.now(), days):
        repository.remove(folder, old)
        process.log(f"{storage}: {old.folder.name} is older than {days} days: removed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all storages have a backup, 1 one has not (one sentence on stderr), 75 another run is under way."""
    parser = argparse.ArgumentParser(prog="zeo-backup-now", description="Back up each storage of a ZEO server now.")
    parser.add_argument("--config", required=True, help="the partition's etc/zeo.json")
    parser.add_argument("--full", action="store_true", help="make full backups, whatever there is")
    given = parser.parse_args(arguments)

    def body() -> int:
        os.umask(0o077)
        config = configuration.load(given.config)
        try:
            make_all(config, given.full)
        except Busy as error:
            process.log(f"busy: {error}")
            return os.EX_TEMPFAIL
        return 0

    return process.program(body)


if __name__ == "__main__":
    raise SystemExit(main())
