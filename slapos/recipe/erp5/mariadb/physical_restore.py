# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a data directory of a full physical backup and the incrementals on it, from files or any other streams."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import dump_file, manifest, new_database, physical, space, tablespaces
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import FULL, Entry
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector, is_table
from slapos.recipe.erp5.mariadb.xbstream_files import Files
from slapos.recipe.erp5.words import size_text

ADDED = ".incremental"
"""Behind the name of a data directory: where its incremental backups are unpacked; a killed run may leave it."""


@dataclass(frozen=True)
class Link:
    """One backup of a chain: what its list says of it, and what to call for the stream of its compressed bytes.

    The stream may tell how far it is: it is read to its end, and closed before the backup is prepared.
    """

    entry: Entry
    open: Callable[[], AbstractContextManager[IO[bytes]]]


def local(entries: Iterable[Entry], folder: Path) -> tuple[Link, ...]:
    """The links of a chain whose files lie in `folder`."""
    return tuple(Link(entry, lambda path=folder / entry.name: path.open("rb")) for entry in entries)  # type: ignore[misc]


def restore(config: Config, links: Iterable[Link], directory: Path) -> str:
    """Make the new data directory `directory` of a chain, the full backup first; returns its GTID position.

    Uses the programs and the defaults file of `config`. Nothing stays when it fails. Raises BackupError for a chain
    that is none, for any backup that is not what its list says, or is not whole, CommandError when a program of
    MariaDB's fails, and OSError (`directory` exists already, the disk is full).
    """
    chain = tuple(links)
    check([link.entry for link in chain])
    limit = _check_space(chain, directory, new_database.reserve(config))
    added = directory.with_name(directory.name + ADDED)
    with new_directory(directory):
        try:
            contents = _unpack(chain[0], directory, limit)
            prepare(config, directory)
            for link in chain[1:]:
                added.mkdir(mode=0o700)
                contents = _unpack(link, added, limit)
                prepare(config, directory, added)
                shutil.rmtree(added)
        finally:
            shutil.rmtree(added, ignore_errors=True)
        complete(contents, directory)
    return physical.gtid(contents)


def check(entries: Iterable[Entry]) -> None:
    """Raise BackupError unless these are a full backup and incrementals that continue each other, of one server."""
    before: Entry | None = None
    for entry in entries:
        if entry.physical is None or not manifest.is_name(entry.name):
            raise BackupError(f"{entry.name} is no physical backup: take another one")
        expected = (before.name, before.physical.to_lsn) if before and before.physical else ("", 0)
        if (entry.physical.base, entry.physical.from_lsn) != expected or (entry.kind == FULL) != (before is None):
            found = before.name if before else "nothing"
            raise BackupError(f"{entry.name} does not continue {found}: take another chain")
        before = entry
    if before is None:
        raise BackupError("there is no backup to restore: make one")


def _check_space(chain: tuple[Link, ...], directory: Path, reserve: int) -> int:
    """How many bytes a backup may unpack to. Raises BackupError when the chain does not fit."""
    needed, free = sum(_plain_size(link.entry) for link in chain), space.free(directory.parent)
    limit = free - reserve
    if limit < needed:
        raise BackupError(
            f"{size_text(free)} are free in {directory.parent}, the backup unpacks to "
            f"{size_text(needed)}, and a database takes {size_text(reserve)} besides: free disk space"
        )
    return limit


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[None]:
    """A directory of ours that goes away when what is done in it fails. Raises OSError when it exists already."""
    directory.mkdir(mode=0o700)
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _plain_size(entry: Entry) -> int:
    return entry.physical.plain_size if entry.physical else 0


# ---- unpacking


def _unpack(link: Link, folder: Path, limit: int) -> Contents:
    """Write one backup's files into `folder`, which is empty, as they come."""
    return unpack(link.entry.name, folder, limit, lambda inspector: _feed(link, inspector))


def unpack(name: str, folder: Path, limit: int, feed: Callable[[Inspector], Contents]) -> Contents:
    """Write into the empty `folder` what `feed` gives to an inspector, at most `limit` bytes; `name` is for messages.

    `feed` returns what the inspector has seen. Raises BackupError, OSError, and whatever `feed` does.
    """
    with process.step(f"unpack {name}"), Files(folder, limit) as files:
        return feed(Inspector(files))


def _feed(link: Link, inspector: Inspector) -> Contents:
    """Give a backup's stream to `inspector`."""
    with link.open() as source:
        text = dump_file.Unpacked(source, link.entry.name, link.entry.size, _plain_size(link.entry))
        for piece in text:
            inspector.feed(piece)
        text.check(link.entry.sha256)
    contents = inspector.finish()
    _check_promises(contents, link.entry)
    return contents


def _check_promises(contents: Contents, entry: Entry) -> None:
    """Raise BackupError unless the stream is what the list says of it."""
    assert entry.physical
    observed = (physical.gtid(contents), len(contents.tablespaces()))
    expected = (entry.gtid, entry.physical.tablespaces)
    if observed != expected:
        raise BackupError(
            f"{entry.name} has GTID {observed[0]} and {observed[1]} tablespaces, its list says {expected[0]} and "
            f"{expected[1]}: take another one"
        )


# ---- preparing


def prepare(config: Config, directory: Path, added: Path | None = None) -> None:
    """Apply the redo log, of an incremental backup in `added` after its changed pages."""
    command = [
        config.program("mariadb-backup"),
        f"--defaults-file={config.defaults_file}",
        "--prepare",
        f"--target-dir={directory}",
    ]
    if added:
        command.append(f"--incremental-dir={added}")
    attempt = f"prepare {directory}"
    with process.step(attempt):
        said = process.run(command, attempt).stderr
    if not tablespaces.is_completed(said):
        raise process.failure(command, attempt, 0, said)


def complete(contents: Contents, directory: Path) -> None:
    """Write a prepared directory to the disk, once. Raises BackupError unless it has just the last backup's tables."""
    _check_tables(contents, directory)
    with process.step("write it to the disk"):
        process.sync_filesystem(directory)


def _check_tables(contents: Contents, directory: Path) -> None:
    files = (os.path.relpath(path, directory) for path in directory.glob("*/*.ibd"))
    found = {name for name in (file.removesuffix(".ibd") for file in files) if is_table(name)}
    differing = sorted(found ^ contents.tablespaces())
    if differing:
        raise BackupError(f"the prepared database differs in {differing[0]} from its backup: take another one")
