# SPDX-License-Identifier: GPL-2.0-or-later
"""What making a backup is, of whatever kind: one at a time, with room for it, proved, listed, offered; old ones go."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, Busy, Error
from slapos.recipe.erp5.mariadb import dump_file, manifest, space, store
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.mariadb.progress import Meter
from slapos.recipe.erp5.mariadb.store import Store
from slapos.recipe.erp5.words import size_text

BUSY = os.EX_TEMPFAIL


def one_at_a_time(config: Config, make: Callable[[], Entry]) -> int:
    """Call `make` unless another backup, or the creation, is under way; returns the exit code. Raises BackupError."""
    os.umask(0o077)  # a backup holds everybody's password hashes
    try:
        with alone(config):
            make()
    except Busy as error:
        process.log(f"busy: {error}")
        return BUSY
    return 0


@contextlib.contextmanager
def alone(config: Config) -> Iterator[None]:
    """Raises Busy at once when another backup, or the creation, is under way."""
    if not config.data_directory.is_dir():
        raise Busy("there is no database yet: its creation comes first, see the log of the service mariadb")
    with store.lock(config):
        yield


def make(where: Store, write: Callable[[tuple[Entry, ...]], Entry]) -> Entry:
    """Let `write` make and prove a file in the partial folder, list and offer it, then remove what is not needed.

    `write` gets the good backups there are, and returns the new one's entry. Raises BackupError.
    """
    with _explained(where):
        entry = store.add(where, write(store.settle(where)))
    _expire(where, entry)
    process.log(f"backup {entry.name} made: {size_text(entry.size)}, GTID {entry.gtid or 'empty'}")
    return entry


def check_space(where: Store, needed: int) -> None:
    """Raise BackupError when the next backup, of about `needed` bytes, is not going to fit.

    Before that, what retention no longer keeps makes room: it would go after the next success, which else never comes.
    """
    if space.free(where.folder) < needed:
        _remove_expired(where)
    free = space.free(where.folder)
    if free < needed:
        raise BackupError(
            f"{size_text(free)} are free in {where.folder}, the next backup takes about "
            f"{size_text(needed)}: free disk space or lower {where.parameter}.retention-days"
        )
    process.log(f"the backup takes about {size_text(needed)}, {size_text(free)} are free")


def capture(
    command: Sequence[str | Path],
    attempt: str,
    path: Path,
    words: IO[bytes],
    progress: Meter,
    through: Callable[[IO[bytes]], IO[bytes]] = lambda stream: stream,
) -> dump_file.Written:
    """Compress what `command` writes into the new file `path`; it dies with us, and says what it says into `words`.

    `through` wraps the stream that is read. Raises BackupError when the command fails, and OSError.
    """
    with process.start(command, stdout=-1, stderr=words) as child:
        assert child.stdout is not None
        try:
            written = dump_file.write(through(child.stdout), path, progress)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code != 0:
        raise BackupError(str(process.failure(command, attempt, code, content(words))))
    return written


def content(file: IO[bytes]) -> bytes:
    """All that an open file holds."""
    file.seek(0)
    return file.read()


def _expire(where: Store, entry: Entry) -> None:
    try:
        _remove_expired(where)
    except OSError as error:
        raise BackupError(f"{entry.name} was made, but not offered, or old ones not removed: {error}") from error


def _remove_expired(where: Store) -> None:
    for old in store.expire(where, times.now()):
        process.log(f"{old.name} is older than {where.schedule.retention_days} days: removed")


@contextlib.contextmanager
def _explained(where: Store) -> Iterator[None]:
    """Leave no partial file behind, and turn what went wrong into a sentence that says what is still there."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or where.partial}: {error.strerror or error}: free or mend the disk"
        raise BackupError(f"no backup was made, {reason}; {_what_stays(where)}") from error
    except Error as error:
        raise BackupError(f"no backup was made, {error}; {_what_stays(where)}") from error
    finally:
        store.discard(where)


def _what_stays(where: Store) -> str:
    try:
        newest = manifest.newest(manifest.load(where.folder))
    except BackupError:
        return "the earlier ones stay as they are"
    return f"the last good one is {newest.name}" if newest else "there is none yet"
