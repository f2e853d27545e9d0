# SPDX-License-Identifier: GPL-2.0-or-later
"""The SQL of the memory of what was once created: that is never created again, whoever removed it."""

import contextlib
from collections.abc import Iterator, Sequence

from pymysql.connections import Connection

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql

MEMORY = "slapos"
"""The database in which `provisioned` remembers what was once created; it travels with backups and replication."""


def has_memory(connection: Connection) -> bool:
    """Whether the database knows what was once created in it (`begin_memory` was completed)."""
    present = sql.execute(
        connection,
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'provisioned'",
        (MEMORY,),
    )
    return bool(present) and bool(sql.execute(connection, f"SELECT 1 FROM {MEMORY}.provisioned WHERE kind = 'memory'"))


def begin_memory(connection: Connection, known: Sequence[tuple[str, str]]) -> None:
    """Begin the memory with the (kind, name) pairs in `known`, all of them or none: an empty one would create them."""
    sql.execute(connection, f"CREATE DATABASE IF NOT EXISTS {MEMORY} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    sql.execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {MEMORY}.provisioned ("
        " kind VARCHAR(16) NOT NULL, name VARCHAR(512) NOT NULL,"
        " created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (kind, name)"
        ") ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    )
    sql.execute(connection, "START TRANSACTION")
    for kind, name in [*known, ("memory", "begun")]:
        remember(connection, kind, name)
    sql.execute(connection, "COMMIT")


def remember(connection: Connection, kind: str, name: str) -> None:
    """Remember for good that `name` was created."""
    sql.execute(
        connection,
        f"INSERT INTO {MEMORY}.provisioned (kind, name) VALUES (%s, %s) ON DUPLICATE KEY UPDATE kind = kind",
        (kind, name),
    )


def remembered(connection: Connection) -> frozenset[tuple[str, str]]:
    """The (kind, name) pairs of what was once created."""
    found = sql.execute(connection, f"SELECT kind, name FROM {MEMORY}.provisioned WHERE kind <> 'memory'")
    return frozenset((str(kind), str(name)) for kind, name in found)


@contextlib.contextmanager
def provisioning(connection: Connection) -> Iterator[bool]:
    """Hold the server's own lock against a second provision at the same time; false when somebody else has it."""
    held = sql.execute(connection, "SELECT GET_LOCK('slapos_provision', 0)")[0][0] == 1
    try:
        yield held
    finally:
        if held:
            with contextlib.suppress(ServerError):  # it ends with the connection anyway
                sql.execute(connection, "DO RELEASE_LOCK('slapos_provision')")
