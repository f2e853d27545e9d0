# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine MySQL: the MariaDB server of a node (neo-mariadb: its hooks), and in it a database for each storage."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Refused, ServerError
from slapos.recipe.erp5.mariadb import decide, private_server, sql, upgrade
from slapos.recipe.erp5.mariadb.decide import ADMINISTRATION
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo.config import MySQL, NodeConfig, database_name

LOOK = 0.1
"""Seconds between two looks whether the server answers."""
KIND = ("utf8mb4", "utf8mb4_bin")
"""Character set and collation of the databases, to which NEO is indifferent: it stores bytes."""


# ---- the server, of which the service script makes one database once


def administrator_sql(server: MySQL) -> str:
    """The init-file that makes the administration account what `server` says."""
    return sql.administrator_statements(ADMINISTRATION, sql.password_hash(server.administrator_password))


def create(config: NodeConfig, server: MySQL, data_directory: Path) -> None:
    """The hook on_creation: the administration account and no other. Raises Refused, ServerError."""
    if marks := [str(mark) for name in config.names if (mark := config.set_up(name)).exists()]:
        raise Refused(
            f"{server.data_directory} is not there, expected the one in which the storages' databases were made: bring"
            f" it back; or, to have empty ones in their place, which the cluster then fills, remove {' '.join(marks)}"
        )
    with (
        private_server.of(server, data_directory, init_sql=administrator_sql(server)) as socket,
        sql.connect(server.defaults_file, socket) as connection,
    ):
        sql.keep_only_own_accounts(connection, ADMINISTRATION)


def prepare(server: MySQL) -> None:
    """The hook on_start: bring the data to a new series of MariaDB. Raises ServerError, CommandError."""
    theirs, ours = upgrade.data_version(server.data_directory), upgrade.server_version(server)
    if refusal := decide.too_new("the data directory", theirs, ours):
        raise ServerError(refusal)
    if decide.series(theirs) < decide.series(ours):
        with private_server.administered(server, administrator_sql(server)) as (_, socket):
            upgrade.upgrade(server, socket)


# ---- the storages


def prepare_storage(config: NodeConfig, server: MySQL, name: str, is_new: bool) -> None:
    """Write what neostorage reads; once the server answers, see to the storage's account, and to its database, which
    may be made when it `is_new`. Raises ServerError, OSError."""
    password = server.passwords[int(name.removeprefix("storage-"))]
    process.write_atomically(config.storage_file(name), storage_text(server, name, password))
    wait(server)
    try:
        with sql.connect(server.defaults_file, server.socket) as connection:
            provide(connection, database_name(name), password, is_new)
    except sql.AccessDenied as error:
        if is_new:
            raise
        process.log(f"warning: {error}, so that the account of {name} stays as it is")


def storage_text(server: MySQL, name: str, password: str) -> str:
    """The section of neostorage's configuration that tells its database; `%` means something there."""
    database = database_name(name)
    return f"[storage]\ndatabase = {database}:{password}@{database}{server.socket}\n".replace("%", "%%")


def wait(server: MySQL) -> None:
    """Until the server answers: it may be made just now, or recover for hours."""
    if private_server.answers(server.socket):
        return
    process.log(f"waiting for MariaDB to answer at {server.socket}, which the service neo-mariadb sees to")
    while not private_server.answers(server.socket):
        time.sleep(LOOK)


def provide(connection: Connection, name: str, password: str, is_new: bool) -> None:
    """Let the account `name` have this password, and all rights on the database `name`, as nobody else has."""
    account, hashed = Account(name, "localhost"), sql.password_hash(password)
    if is_new and name not in sql.databases(connection):
        sql.create_database(connection, name, *KIND)
    if sql.native_password(connection, account) != hashed:
        sql.replace_account(connection, account, hashed)
    if (name, account) not in sql.database_grants(connection):
        sql.grant_database(connection, name, account)


# ---- program


def main(arguments: Sequence[str] | None = None) -> int:
    """The program `neo-mariadb`, which the service script calls."""
    parser = argparse.ArgumentParser(prog="neo-mariadb", description=__doc__)
    parser.add_argument("--config", required=True, help="the partition's etc/neo-node.json")
    parser.add_argument("--create", type=Path, metavar="DIRECTORY", help="complete this new database, for on_creation")
    given = parser.parse_args(arguments)

    def body() -> None:
        config = configuration.load_node(given.config)
        if config.mysql is None:
            raise Refused("the storages of this node have the engine SQLite, expected MySQL: there is no server")
        if given.create:
            create(config, config.mysql, given.create)
        else:
            prepare(config.mysql)

    return process.program(body)


if __name__ == "__main__":
    raise SystemExit(main())
