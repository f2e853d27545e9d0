# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-physical-backup-now: a copy of the data directory, full or what has changed since the last one."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, cast

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import chain, dump_file, making, manifest, rate, space, sql, store, tablespaces
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import FULL, INCREMENTAL, Entry, Physical
from slapos.recipe.erp5.mariadb.progress import Meter
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector

ATTEMPT = "copy the data directory"
SECOND = timedelta(seconds=1)
SUFFIXES = {FULL: "full.zst", INCREMENTAL: "incremental.zst"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 a backup was made, 1 it was not (one sentence on stderr), 75 another one is under way."""
    parser = argparse.ArgumentParser(prog="mariadb-physical-backup-now", description="Make a physical backup now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument("--full", action="store_true", help="a full backup, even when an incremental one would do")
    given = parser.parse_args(arguments)

    def body() -> int:
        config = configuration.load(given.config)
        return making.one_at_a_time(config, lambda: make(config, given.full))

    return process.program(body)


def make(config: Config, full: bool = False) -> Entry:
    """Make, prove, list and offer one backup, then remove the chains that are no longer needed. Raises BackupError."""
    return making.make(store.physical(config), lambda entries: _backup(config, entries, full))


def _backup(config: Config, entries: tuple[Entry, ...], full: bool) -> Entry:
    """Decide what to make, and write and prove it in the partial folder."""
    server, before = look(config)
    coming = chain.decide(entries, server, config.backup.physical.incrementals, full)
    where = store.physical(config)
    process.log(f"an incremental backup on {coming.base.name}" if coming.base else f"a full backup: {coming.reason}")
    making.check_space(where, _needed(config, entries, coming))
    start, kind = _start(entries), INCREMENTAL if coming.base else FULL
    path = store.begin(where) / f"{start:%Y%m%dT%H%M%SZ}.{SUFFIXES[kind]}"
    made = _stream(config, path, coming.base)
    check_tables(config, made.contents, made.said, before)
    dump_file.verify(path, made.written)
    return Entry(
        name=path.name,
        kind=kind,
        size=made.written.size,
        sha256=made.written.sha256,
        gtid=gtid(made.contents),
        start=times.text(start),
        end=times.text(times.now()),
        server_version=server.version,
        physical=_facts(made, coming.base, server.database),
    )


# ---- the server


def look(config: Config) -> tuple[chain.Server, frozenset[tuple[int, str]]]:
    """What the server is, and its tablespaces, after a checkpoint.

    mariadb-backup leaves out what was dropped or discarded since the last checkpoint and is there again, such
    as an imported table; and the less redo follows that checkpoint, the sooner a restore is prepared. No connection is
    kept while the backup runs: that may take longer than the server's wait_timeout.
    """
    with sql.connect(config.defaults_file) as connection:
        sql.checkpoint(connection)
        lsn = sql.log_sequence_number(connection)
        return chain.Server(sql.version(connection), _identity(config), lsn), sql.tablespaces(connection)


def _identity(config: Config) -> str:
    """What tells this data directory from one that was made or restored anew: when the first of its files got here.

    It is the change time of a system table's definition, which the server never touches again, and which no copying
    program can keep, unlike names, numbers and the time of modification: an inode's number is soon given again.
    """
    return str(min(path.stat().st_ctime_ns for path in config.data_directory.glob("mysql/*.frm")))


def _start(entries: tuple[Entry, ...]) -> datetime:
    """Now; or the second after the newest one's, when that is this very second: chains go by the order of the list."""
    newest, now = manifest.newest(entries), times.now()
    last = times.parse(newest.start) if newest else now - SECOND
    return last + SECOND if now - SECOND < last < now + 10 * SECOND else now


def check_tables(config: Config, contents: Contents, said: bytes, before: frozenset[tuple[int, str]]) -> None:
    """Raise BackupError when a stream lacks a table that was there all the time, since `before` of look()."""
    with sql.connect(config.defaults_file) as connection:
        after = sql.tablespaces(connection)
    ignored, all_named = tablespaces.left_out(said)
    lost = tablespaces.missing(before, after, contents.tablespaces(), ignored)
    if lost or not all_named:
        names = ", ".join(lost[:5]) or "tables that it does not name"
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise BackupError(
            f"mariadb-backup left out {names}{more}, which the server has: run this again when no table is being"
            f" imported, and see {config.physical_backup_log}"
        )


# ---- the stream


@dataclass(frozen=True)
class _Made:
    """A stream as it was written, what is in it, and what mariadb-backup `said` while it made it."""

    written: dump_file.Written
    contents: Contents
    said: bytes


class _Source:
    """A stream that is looked at, and held back, as it is read."""

    def __init__(self, stream: IO[bytes], inspect: Callable[[bytes], None], hold: Callable[[int], None]) -> None:
        self.stream, self.inspect, self.hold = stream, inspect, hold

    def read(self, size: int) -> bytes:
        chunk = self.stream.read(size)
        self.inspect(chunk)
        self.hold(len(chunk))
        return chunk


def _stream(config: Config, path: Path, base: Entry | None) -> _Made:
    """Run mariadb-backup into the file `path`. Raises BackupError when it fails, or there is any sign that it did."""
    since = [f"--incremental-lsn={base.physical.to_lsn}"] if base and base.physical else []
    command = copy_command(config, f"--target-dir={path.parent}", *since)
    inspector, hold = Inspector(), rate.limiter(config.backup.max_rate)
    with config.physical_backup_log.open("w+b") as words:
        written = making.capture(
            command,
            ATTEMPT,
            path,
            words,
            Meter("copied"),
            lambda stream: cast(IO[bytes], _Source(stream, inspector.feed, hold)),
        )
        said = making.content(words)
    check_completed(said)
    return _Made(written, inspector.finish(), said)


def copy_command(config: Config, *options: str) -> list[str]:
    """What writes a copy of the data directory to its standard output as an xbstream."""
    program, defaults = config.program("mariadb-backup"), f"--defaults-file={config.defaults_file}"
    return [program, defaults, "--backup", "--stream=xbstream", *options]


def check_completed(said: bytes) -> None:
    """Raise BackupError unless mariadb-backup's last word was that it succeeded: its status alone says too little."""
    if not tablespaces.is_completed(said):
        raise BackupError(f"mariadb-backup did not end with `completed OK!` but with: {process.last_words(said)}")


def gtid(contents: Contents) -> str:
    """The GTID position of a backup: all that follows the binary log's name and offset. Raises BackupError for none."""
    fields = contents.information("binlog_info").split(maxsplit=2)
    if len(fields) < 3:
        raise BackupError("the backup has no GTID position, without which no replica can use it: is the binary log on?")
    return "".join(fields[2].split())


def _facts(made: _Made, base: Entry | None, database: str) -> Physical:
    """Raises BackupError when the stream does not continue `base`, or says nothing about its log sequence numbers."""
    lines = made.contents.information("checkpoints").splitlines()
    values = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    try:
        from_lsn, to_lsn = int(values["from_lsn"]), int(values["to_lsn"])
    except (KeyError, ValueError) as error:
        raise BackupError(f"the stream does not say what it covers: {error}: is this mariadb-backup's?") from error
    if from_lsn != (base.physical.to_lsn if base and base.physical else 0):
        expected = f"where {base.name} ends" if base else "0, as for a full backup"
        raise BackupError(f"the stream begins at {from_lsn}, expected {expected}: run this again")
    return Physical(
        base=base.name if base else "",
        from_lsn=from_lsn,
        to_lsn=to_lsn,
        plain_size=made.written.plain_size,
        tablespaces=len(made.contents.tablespaces()),
        database=database,
    )


def _needed(config: Config, entries: tuple[Entry, ...], coming: chain.Next) -> int:
    """Bytes that the next backup is going to take: as its kind did last time; a first incremental, as a full one."""
    kind = INCREMENTAL if coming.base and any(entry.kind == INCREMENTAL for entry in entries) else FULL
    same = [entry for entry in entries if entry.kind == kind]
    return space.needed(same, space.tables_size(config.data_directory))


if __name__ == "__main__":
    raise SystemExit(main())
