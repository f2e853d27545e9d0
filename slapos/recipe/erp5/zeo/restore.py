# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zeo-restore: builds a storage's file from its backups beside the present one, and swaps them by a rename.

The server must not run. Killed at any moment, there is the old file or the new one, whole: one that is missing for a
moment would be made anew, and empty, by a server that starts then.
"""

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, Busy, ConfigurationError, Refused
from slapos.recipe.erp5.words import size_text
from slapos.recipe.erp5.zeo import backup, repository
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import Config
from slapos.recipe.erp5.zeo.repository import Chain
from slapos.recipe.erp5.zeo.start import mark_as_made

END_OF_TIME = "9999-12-31-23-59-59"
"""For repozo, which would leave out what a clock that was ahead has named."""


@contextlib.contextmanager
def stopped(config: Config, storage: str) -> Iterator[None]:
    """Hold ZODB's own lock of a storage: no server has it open, and none can open it meanwhile. Raises Busy."""
    fifo = config.service.fifo
    database = config.database(storage)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    busy = (
        f"the server of {config.instance} has {database} open, expected it to be stopped: write stop into {fifo},"
        " restore, and write start into it"
    )
    with process.lock(f"{database}.lock", busy):
        yield


def restore(config: Config, storage: str, at: datetime | None, source: Path | None, replace: bool) -> None:
    """Make a backup the storage's file; whatever fails before, that is as it was. Raises Busy, Error, OSError."""
    os.umask(0o077)
    check_present(config, storage, replace)
    with backup.alone(config), stopped(config, storage):
        found = repository.chains(config.backups(storage)) if source is None else (repository.chain(source.absolute()),)
        chosen = repository.until(found, at)
        if reason := repository.damage(chosen):
            raise BackupError(
                f"{reason}, expected what the record of {chosen.folder} says: give --at for an earlier one"
            )
        new = build(config, storage, chosen)
        with process.step(f"make it {config.database(storage)}"):
            aside = swap(config, storage, new)
        mark_as_made(config, storage)
    process.log(
        f"{storage} is restored as of {times.text(chosen.pieces[-1].at)}: start the server, and then restart its"
        " clients, which refuse a database that is older than what they know"
    )
    if aside:
        process.log(f"the file from before is {aside}: remove it when it is needed no longer")


def check_present(config: Config, storage: str, replace: bool) -> None:
    """Raise Refused for an unknown storage, ConfigurationError for a file that must stay."""
    if storage not in config.storages:
        raise Refused(f"there is no storage {storage}, expected one of {', '.join(config.storages)}")
    present = config.database(storage)
    if present.is_symlink():
        raise ConfigurationError(f"{present} is a link, and only a file can be swapped: put the database itself there")
    if present.exists() and not replace:
        raise ConfigurationError(
            f"{present} exists, and a restore replaces all of it: add --replace, which keeps it under another name"
        )


def build(config: Config, storage: str, chosen: Chain) -> Path:
    """The complete file in a folder beside, read to its end twice; removed again when that fails. Raises Error."""
    folder = config.database(storage).with_name(f"{storage}.restore")
    shutil.rmtree(folder, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < chosen.end:
        raise BackupError(
            f"{size_text(free)} are free in {folder.parent}, and it takes {size_text(chosen.end)}: free space"
        )
    repozo = folder / "repository"
    repozo.mkdir(mode=0o700, parents=True)
    try:
        repository.imitate(chosen, repozo)
        new = folder / config.database(storage).name
        words = (config.software.program("repozo"), "-R", "-w", "-r", repozo, "-o", new, "-D", END_OF_TIME)
        with process.step(f"restore {storage}, {size_text(chosen.end)}"):
            process.run(words, f"restore {storage} from {chosen.folder}")
        with process.step("check each record of it"):
            check(config, new, chosen)
        process.sync_filesystem(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return new


def check(config: Config, new: Path, chosen: Chain) -> None:
    """Raise BackupError, CommandError unless a file is a whole database."""
    size = new.stat().st_size
    if size != chosen.end:
        raise BackupError(f"{new} has {size} bytes, expected the {chosen.end} that were backed up: take an earlier one")
    words = (config.software.program("python"), "-m", "ZODB.scripts.fstest", new)
    process.run(words, f"find a whole database in what {chosen.folder} holds")


def swap(config: Config, storage: str, new: Path) -> Path | None:
    """Put a file in the place of the storage's; returns where that is now, if there was one.

    An index belongs to one file: there is none for a moment, in which a server would read all of the file instead.
    """
    present = config.database(storage)
    aside = (
        present.with_name(f"{present.name}.before-restore-{times.now():%Y%m%dT%H%M%SZ}") if present.exists() else None
    )
    if aside:
        os.link(present, aside)
    _index(present).unlink(missing_ok=True)
    process.sync_directory(present.parent)
    new.replace(present)
    process.sync_directory(present.parent)
    if _index(new).exists():
        _index(new).replace(_index(present))
    shutil.rmtree(new.parent)
    return aside


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def _moment(text: str) -> datetime:
    try:
        return times.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment such as 2026-11-22T22:30:00Z") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the backup is the storage's file now, 1 it is not (one sentence on stderr says why)."""
    parser = argparse.ArgumentParser(prog="zeo-restore", description="Make a backup the file of a storage.")
    parser.add_argument("--config", required=True, help="the partition's etc/zeo.json")
    parser.add_argument("--storage", default="root", help="which one (%(default)s)")
    parser.add_argument("--at", type=_moment, metavar="MOMENT", help="as it was then, such as 2026-11-22T22:30:00Z")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="a chain that lies somewhere else")
    parser.add_argument("--replace", action="store_true", help="put the present file aside; it is kept")
    given = parser.parse_args(arguments)

    def body() -> None:
        try:
            restore(configuration.load(given.config), given.storage, given.at, given.source, given.replace)
        except Busy as error:
            raise Refused(f"nothing was restored, {error}") from error

    return process.program(body)


if __name__ == "__main__":
    raise SystemExit(main())
