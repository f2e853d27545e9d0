# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes new data directories: an empty one, and one that holds what a dump says."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import BackupError, ConfigurationError
from slapos.recipe.erp5.mariadb import create, decide, mroonga, private_server, sql, sql_replication, upgrade
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.dump_file import Facts

RESERVE = 160 << 20
"""Bytes that a new database takes besides its rows and its redo log: system tables and undo logs, which grow."""

# For loading alone. Without the binary log: with it, a full dump ends with error 1947 and without an administrator.
# Rows twice as long as the largest one (--hex-blob), tables made with a lenient server, no copy of the rows in a log;
# durability comes from a clean stop and a sync at the end.
LOADING = (
    "--skip-log-bin",
    "--slow-query-log=OFF",
    "--max-allowed-packet=1G",
    "--innodb-strict-mode=OFF",
    "--innodb-flush-log-at-trx-commit=0",
)


def reserve(config: Config) -> int:
    """Bytes that a new database takes besides its rows; its redo log is made as large as it may become."""
    return RESERVE + config.innodb_log_file_size


def initialise(config: Config, folder: Path) -> None:
    """Make an empty database, as component/mariadb/mariadbd-service.sh.in does (plain_install). Raises CommandError."""
    command = [
        config.program("mariadb-install-db"),
        f"--defaults-file={config.defaults_file}",
        f"--basedir={config.software.mariadb}/usr",
        f"--datadir={folder}",
        "--cross-bootstrap",
        "--skip-test-db",
        "--auth-root-socket-user=root",
        "--skip-log-bin",
    ]
    # With the lock, so that the next run waits for what a killed one had started.
    with process.start(command, close_fds=False, stdout=-1, stderr=-2) as child:
        try:
            output, _ = child.communicate()
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise process.failure(command, f"initialise {folder}", child.returncode, output)


def load(config: Config, folder: Path, execute: Callable[[Path], Facts]) -> Facts:
    """Let `execute` load a dump into the new database `folder`; returns what it returns.

    It gets the socket of a private server, whose accounts the dump may replace. Raises ServerError, and what it raises.
    """
    server = private_server.of(config, folder, init_sql=create.administrator_sql(config), options=LOADING)
    with server as socket, sql.connect(config.defaults_file, socket) as connection:
        try:
            # Whatever the parameter says now: the dump may have tables of that engine.
            mroonga.install(dataclasses.replace(config, mroonga=True), connection)
        except ConfigurationError as error:
            process.log(f"the dump is loaded without Mroonga: {error}")
        facts = execute(socket)
        # A dump is made for replicas: it makes its server one, of no primary yet.
        sql_replication.forget_primary(connection)
    if decide.series(facts.server_version) < decide.series(upgrade.server_version(config)):
        for mark in upgrade.MARKS:  # the next start finds none, and upgrades the system tables that were loaded
            (folder / mark).unlink(missing_ok=True)
    return facts


def check_version(config: Config, what: str, theirs: str) -> None:
    """Raise BackupError when `what`, of which a database is to be made, is of a newer series of MariaDB than ours."""
    if newer := decide.too_new(what, theirs, upgrade.server_version(config)):
        raise BackupError(newer)
