# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-dump-now: one logical backup, now; it is listed only when it is complete and proved."""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError, Busy, Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import dump_file, manifest, space, store
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import Entry

BUSY = os.EX_TEMPFAIL
KIND = "logical"
PROGRESS_PERIOD = 10.0
"""Seconds between two lines of progress in the log."""

# See FACTS 3. --single-transaction with --master-data reads a consistent snapshot with its position and locks nobody
# out; --gtid adds the position; --flush-privileges makes the accounts work as soon as it is loaded.
OPTIONS = (
    "--all-databases",
    "--single-transaction",
    "--gtid",
    "--master-data=1",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--flush-privileges",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",  # the largest value that a server can hold; the default ends at a row of 24 MB
)


class Progress:
    """Logs how far a dump is, at most once in PROGRESS_PERIOD."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()

    def __call__(self, read: int, written: int) -> None:
        now = time.monotonic()
        if now - self.last >= PROGRESS_PERIOD:
            self.last = now
            rate = space.size_text(read / (now - self.begin))
            process.log(f"dumped {space.size_text(read)}, {rate}/s, compressed to {space.size_text(written)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 a backup was made, 1 it was not (one sentence on stderr), 75 another one is under way."""
    parser = argparse.ArgumentParser(prog="mariadb-dump-now", description="Make a logical backup now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: one_at_a_time(configuration.load(path)))


def one_at_a_time(config: Config) -> int:
    """Make a backup unless another one is under way. Raises BackupError."""
    os.umask(0o077)  # a dump holds everybody's password hashes
    try:
        with store.lock(config):
            make(config)
    except Busy as error:
        process.log(f"busy: {error}")
        return BUSY
    return 0


def make(config: Config) -> Entry:
    """Make, prove, list and offer one backup, then remove those that are no longer needed. Raises BackupError."""
    with _explained(config):
        check_space(config, store.settle(config))
        entry = store.add(config, _dump(config))
    _expire(config, entry)
    process.log(f"backup {entry.name} made: {space.size_text(entry.size)}, GTID {entry.gtid or 'empty'}")
    return entry


def _expire(config: Config, entry: Entry) -> None:
    try:
        for old in store.expire(config, times.now()):
            process.log(f"{old.name} is older than {config.backup.logical.retention_days} days: removed")
    except OSError as error:
        raise BackupError(f"{entry.name} was made, but not offered, or old ones not removed: {error}") from error


def check_space(config: Config, entries: tuple[Entry, ...]) -> None:
    """Raise BackupError when the next backup is not going to fit."""
    needed, free = space.needed(entries, space.tables_size(config.data_directory)), space.free(config.dumps)
    if free < needed:
        raise BackupError(
            f"{space.size_text(free)} are free in {config.dumps}, the next backup takes about "
            f"{space.size_text(needed)}: free disk space or lower backup.logical.retention-days"
        )
    process.log(f"the backup takes about {space.size_text(needed)}, {space.size_text(free)} are free")


@contextlib.contextmanager
def _explained(config: Config) -> Iterator[None]:
    """Leave no partial file behind, and turn what went wrong into a sentence that says what is still there."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or store.partial(config)}: {error.strerror or error}: free or mend the disk"
        raise BackupError(f"no backup was made, {reason}; {_what_stays(config)}") from error
    except Error as error:
        raise BackupError(f"no backup was made, {error}; {_what_stays(config)}") from error
    finally:
        store.discard(config)


def _what_stays(config: Config) -> str:
    try:
        newest = manifest.newest(manifest.load(config.dumps))
    except BackupError:
        return "the earlier ones stay as they are"
    return f"the last good one is {newest.name}" if newest else "there is none yet"


def _dump(config: Config) -> Entry:
    """Write and prove a dump in the partial folder."""
    start = times.now()
    path = store.begin(config) / f"{start:%Y%m%dT%H%M%SZ}.sql.zst"
    written = _run_dump(config, path)
    facts = dump_file.facts(written)
    dump_file.verify(path, written)
    return Entry(
        name=path.name,
        kind=KIND,
        size=written.size,
        sha256=written.sha256,
        gtid=facts.gtid,
        start=times.text(start),
        end=times.text(times.now()),
        server_version=facts.server_version,
    )


def _run_dump(config: Config, path: Path) -> dump_file.Written:
    """Run mariadb-dump into the file `path`; it writes nothing to the server, and dies with us."""
    command = [config.program("mariadb-dump"), f"--defaults-file={config.defaults_file}", *OPTIONS]
    with tempfile.TemporaryFile() as words, process.start(command, stdout=-1, stderr=words) as child:
        assert child.stdout is not None
        try:
            written = dump_file.write(child.stdout, path, Progress())
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        if code != 0:
            raise BackupError(str(process.failure(command, "dump the databases", code, _content(words))))
    return written


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    raise SystemExit(main())
