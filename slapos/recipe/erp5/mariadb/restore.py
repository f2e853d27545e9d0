# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-restore: builds a database from a dump beside the present one, and swaps them with one rename."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, ConfigurationError, Error, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import (
    create,
    dump_load,
    new_database,
    private_server,
    space,
    sql,
    sql_replication,
    swap,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.dump_file import Facts
from slapos.recipe.erp5.mariadb.dump_load import Dump
from slapos.recipe.erp5.words import size_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the dump is the partition's database now, 1 it is not (one sentence on stderr says why)."""
    parser = argparse.ArgumentParser(prog="mariadb-restore", description="Make a dump the partition's database.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument("--replace", action="store_true", help="put the present database aside; it is kept")
    parser.add_argument("file", type=Path, metavar="FILE.sql.zst", help="a backup of ours")
    options = parser.parse_args(arguments)
    return process.program(lambda: restore(configuration.load(options.config), options.file, options.replace))


def restore(config: Config, path: Path, replace: bool) -> None:
    """Make the dump `path` the database of the stopped partition; killed at any moment, it has the old or the new one.

    Raises Busy, BackupError, ConfigurationError, ServerError, CommandError: srv/mariadb is then as it was.
    """
    os.umask(0o077)
    with swap.locked(config):
        check_present(config, replace)
        swap.settle(config)
        try:
            with open(path, "rb", buffering=0) as source:
                dump = check_file(config, source, path)
                build(config, source, path, dump)
        except OSError as error:
            where = error.filename or path
            raise BackupError(
                f"nothing was restored, {where}: {error.strerror or error}: mend that, and run this again"
            ) from error
        with process.step(f"make it {config.data_directory}"):
            aside = swap.take_over(config)
    process.log(f"{path.name} is restored, GTID {dump.facts.gtid or 'empty'}: start the service")
    if aside:
        process.log(f"the database from before is {aside}: remove it (rm -r) when it is needed no longer")


# ---- what has to be true before anything is changed


def check_present(config: Config, replace: bool) -> None:
    """Raise ConfigurationError when there is a database that must stay, or one that a rename cannot replace."""
    present = config.data_directory
    if present.is_symlink():
        raise ConfigurationError(
            f"{present} is a link to {os.readlink(present)}, and only a folder can be swapped with a new one: put the"
            " database itself there, or remove the link to restore beside what it points to"
        )
    if present.exists() and not replace:
        raise ConfigurationError(
            f"{present} exists, and a restore replaces all of it: add --replace, which keeps it under another name"
        )


def check_file(config: Config, source: IO[bytes], path: Path) -> Dump:
    """Read the whole dump once: it has to be complete, of a version that we can read, and its database has to fit.

    Raises BackupError, CommandError.
    """
    free = space.free(config.data_directory.parent)
    with process.step(f"read {path} to its end"):
        dump = dump_load.examine(config, source, path, free - new_database.reserve(config))
    theirs = dump.facts.server_version
    new_database.check_version(config, str(path), theirs)
    process.log(f"it is {size_text(dump.size)} of SQL from MariaDB {theirs}, {size_text(free)} are free")
    return dump


# ---- building


def build(config: Config, source: IO[bytes], path: Path, dump: Dump) -> None:
    """Make the complete, synced database in the folder beside; it is removed again when that fails."""
    folder = swap.begin(config)
    try:
        with process.step(f"initialise {folder}"):
            new_database.initialise(config, folder)
        with process.step("load the dump"):
            _load(config, source, path, dump, folder)
        with process.step("start with the binary log, and check where it begins"):
            _complete(config, dump, folder)
        with process.step("sync"):
            process.run(["sync", "-f", folder], f"sync {folder}")
    except BaseException as error:
        swap.discard(config)
        if isinstance(error, Error):
            raise type(error)(f"nothing was restored, {error}") from error
        raise


def _load(config: Config, source: IO[bytes], path: Path, dump: Dump, folder: Path) -> None:
    """Execute the dump on a new server, whose accounts it replaces."""

    def execute(socket: Path) -> Facts:
        dump_load.load(config, source, path, dump, socket)
        return dump.facts

    new_database.load(config, folder, execute)


def _complete(config: Config, dump: Dump, folder: Path) -> None:
    """Start as the service will, with this partition's administrator, and let the binary log begin at the dump's GTID.

    Without that a backup or a replica made before the first write would say that it has nothing.
    """
    expected = dump.facts.gtid
    server = private_server.of(config, folder, init_sql=create.administrator_sql(config))
    with server as socket, sql.connect(config.defaults_file, socket) as connection:
        if expected:
            sql_replication.begin_binary_log(connection, expected)
        found = sql.variable(connection, "gtid_current_pos")
        if sorted(found.split(",")) != sorted(expected.split(",")) or sql.is_replica(connection):
            raise ServerError(
                f"the restored server is at GTID {found or 'empty'} and not a primary at {expected or 'empty'}, which"
                " its dump says: take another backup"
            )
