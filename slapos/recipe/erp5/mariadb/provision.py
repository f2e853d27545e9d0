# SPDX-License-Identifier: GPL-2.0-or-later
"""Creates the databases and users that are requested and were never created; alters nothing, drops nothing."""

import argparse

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import decide, sql, sql_memory
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.decide import Item, Plan, World


def look(connection: Connection) -> World:
    """What the server has and remembers."""
    return World(
        databases=sql.databases(connection),
        accounts=sql.accounts(connection),
        database_grants=sql.database_grants(connection),
        global_grants=sql.global_grants(connection),
        remembered=sql_memory.remembered(connection),
    )


def create_all(config: Config, connection: Connection) -> None:
    """Begin the memory of a new database, and create all that is requested. Raises ServerError."""
    sql_memory.begin_memory(connection, ())
    world = look(connection)
    carry_out(config, connection, decide.plan(decide.requested(config), world), world)


def provision(config: Config, connection: Connection, include_removed: bool = False) -> None:
    """Create what is new on a primary; on anything else, say that it is none and change nothing.

    Raises ServerError, ConfigurationError, or Busy when another provision is at it.
    """
    items = decide.requested(config)
    if sql.is_replica(connection) or not sql.is_writable(connection):
        process.log("provision: nothing is created here: a replica gets databases and users from its primary")
        return
    with sql_memory.provisioning(connection) as held:
        if not held:
            raise Busy("another provision is running on this server: wait for its end")
        if not sql_memory.has_memory(connection):
            process.log("provision: this database was made by other means: what is requested now counts as known")
            sql_memory.begin_memory(connection, [item.key for item in items])
        world = look(connection)
        plan = decide.plan(items, world, include_removed)
        _say_unknown(config, world)
        carry_out(config, connection, plan, world)
    if plan.removed:
        missing = ", ".join(map(str, plan.removed))
        process.log(
            f"provision: left alone, as it is known here and people may have removed it: {missing}"
            " (bin/mariadb-provision --include-removed creates it)"
        )
    elif not plan.create:
        process.log("provision: nothing to create")


def _say_unknown(config: Config, world: World) -> None:
    """Say which entries of database-list nothing is created for, as nobody here knows their passwords."""
    entries = (*config.databases, *config.test_databases)
    unknown = [entry.name for entry in entries if not entry.password and entry.name not in world.databases]
    if unknown:
        process.log(
            f"provision: not created, as no password for it is known here: {', '.join(unknown)} (give one in"
            " database-list)"
        )


def carry_out(config: Config, connection: Connection, plan: Plan, world: World) -> None:
    """Create, and remember after each creation: who is interrupted between the two finds it existing, and remembers."""
    for item in plan.create:
        _create(config, connection, item, world)
        sql_memory.remember(connection, *item.key)
        process.log(f"step: provision: created {item}")
    for item in plan.remember:
        sql_memory.remember(connection, *item.key)


def _create(config: Config, connection: Connection, item: Item, world: World) -> None:
    if item.account is None:
        sql.create_database(connection, item.database, config.character_set, config.collation)
    elif item.kind == "account":
        twin = decide.twin(item, world)
        hashed = (sql.native_password(connection, twin) if twin else "") or item.hashed
        sql.create_account(connection, item.account, hashed, item.require)
    elif item.database:
        sql.grant_database(connection, item.database, item.account)
    else:
        sql.grant_global(connection, item.privilege, item.account)


def main() -> int:
    """The program `mariadb-provision`, on the running service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="etc/mariadb.json")
    parser.add_argument(
        "--include-removed", action="store_true", help="create also what was created once and does not exist any more"
    )
    arguments = parser.parse_args()

    def body() -> None:
        config = configuration.load(arguments.config)
        try:
            connection = sql.connect(config.defaults_file)
        except ServerError as error:
            raise ServerError(
                f"{error}: start the mariadbd service, which provisions by itself, or try again once it answers"
            ) from error
        with connection:
            provision(config, connection, arguments.include_removed)

    return process.program(body)
