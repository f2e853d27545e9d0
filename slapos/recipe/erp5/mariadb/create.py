# SPDX-License-Identifier: GPL-2.0-or-later
"""The on_creation hook: completes a new database before it ever serves, as a primary, or as a replica of one."""

import argparse
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import bootstrap_note, decide, mroonga, private_server, provision, replica, sql
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config


def administrator_sql(config: Config) -> str:
    """The init-file that makes the administration account what `config` says."""
    hashed = sql.password_hash(config.secrets.administrator_password)
    return sql.administrator_statements(decide.ADMINISTRATION, hashed)


def on_creation(config: Config, data_directory: Path) -> None:
    """Complete the new database in `data_directory`, unless it is a replica's, which mariadb-install has completed.

    Raises ConfigurationError, ServerError.
    """
    note = bootstrap_note.load(data_directory)
    if note is None or not (data_directory / bootstrap_note.MASTER_INFO).exists():
        create(config, data_directory)
        return
    primary = replica.source(config, note)
    process.log(f"this replica of {primary.address} is complete already")


def create(config: Config, data_directory: Path) -> None:
    """Complete the new database in `data_directory`: a primary's, or a replica's, which has a note of its making.

    Raises ConfigurationError, ServerError.
    """
    note = bootstrap_note.load(data_directory)
    if note is None:
        if config.replication:
            raise ConfigurationError(
                "this database was begun as a primary's, and the parameter replication asks for a replica now: the"
                " creation begins again as one"
            )
        create_primary(config, data_directory)
        return
    with process.step("start a private server, and make the administration account"):
        server = private_server.of(config, data_directory, init_sql=administrator_sql(config))
    with server as socket, sql.connect(config.defaults_file, socket) as connection:
        replica.make(config, connection, note)
        process.log("step: stop the private server")


def create_primary(config: Config, data_directory: Path) -> None:
    """Fill the new database in `data_directory`, as mariadb-install-db leaves it.

    What concerns this server alone is unlogged; what replicas need is in the binary log from its first event on.
    Raises ConfigurationError before anything is done, ServerError.
    """
    decide.requested(config)
    with process.step("start a private server, and make the administration account"):
        server = private_server.of(config, data_directory, init_sql=administrator_sql(config))
    with server as socket, sql.connect(config.defaults_file, socket) as connection:
        with process.step("keep only the server's own accounts"), sql.unlogged(connection):
            sql.keep_only_own_accounts(connection, decide.ADMINISTRATION)
        mroonga.install(config, connection)
        with process.step("create the databases and users"):
            provision.create_all(config, connection)
        process.log("step: stop the private server")


def main() -> int:
    """The program `mariadb-create`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="etc/mariadb.json")
    parser.add_argument("--data-directory", required=True, type=Path, help="the new database")
    arguments = parser.parse_args()
    return process.program(lambda: on_creation(configuration.load(arguments.config), arguments.data_directory))
