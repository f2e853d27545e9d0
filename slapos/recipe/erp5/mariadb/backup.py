# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-dump-now: one logical backup, now; it is listed only when it is complete and proved."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import dump_file, making, space, store
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import LOGICAL, Entry
from slapos.recipe.erp5.mariadb.progress import Meter

# --single-transaction with --master-data reads a consistent snapshot with its position and locks nobody
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 a backup was made, 1 it was not (one sentence on stderr), 75 another one is under way."""
    parser = argparse.ArgumentParser(prog="mariadb-dump-now", description="Make a logical backup now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config

    def body() -> int:
        config = configuration.load(path)
        return making.one_at_a_time(config, lambda: make(config))

    return process.program(body)


def make(config: Config) -> Entry:
    """Make, prove, list and offer one backup, then remove those that are no longer needed. Raises BackupError."""
    return making.make(store.logical(config), lambda entries: _dump(config, entries))


def _dump(config: Config, entries: tuple[Entry, ...]) -> Entry:
    """Write and prove a dump in the partial folder."""
    where = store.logical(config)
    making.check_space(where, space.needed(entries, space.tables_size(config.data_directory)))
    start = times.now()
    path = store.begin(where) / f"{start:%Y%m%dT%H%M%SZ}.sql.zst"
    written = _run_dump(config, path)
    facts = dump_file.facts(written)
    dump_file.verify(path, written)
    return Entry(
        name=path.name,
        kind=LOGICAL,
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
    with tempfile.TemporaryFile() as words:
        return making.capture(command, "dump the databases", path, words, Meter("dumped"))


if __name__ == "__main__":
    raise SystemExit(main())
