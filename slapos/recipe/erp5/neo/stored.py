# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what a storage of a node has on its disk, without NEO: when this is of interest the masters are stopped.

SQLite and MariaDB have the same tables; all SQL about them is here.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.neo.config import MySQL, NodeConfig, database_name

LOCKED = 5.0
"""Seconds for a storage to let go of its database, or for a server to answer."""

Query = Callable[[str, Sequence[object]], Iterable[tuple]]
"""Executes a statement with `%s` for each of the values."""

BACKUP = "SELECT value FROM config WHERE name = 'backup_tid' AND value IS NOT NULL"
TIDS = (
    "SELECT tid FROM trans WHERE `partition` = %s AND tid > %s ORDER BY tid LIMIT %s",
    "SELECT tid FROM ttrans WHERE `partition` = %s AND tid > %s ORDER BY tid LIMIT %s",
)
"""The transactions of a partition that are finished, and those that are about to be."""


def is_backup(config: NodeConfig, name: str) -> bool:
    """Whether a storage has on its disk that it is a backup's. Raises ServerError."""
    if not config.has_database(name):
        return False
    with _opened(config, name) as query:
        return bool(list(query(BACKUP, ())))


def tids(config: NodeConfig, name: str, after: int, limit: int) -> Iterator[int]:
    """Of each partition the first `limit` transactions above `after`. Raises ServerError."""
    if not config.has_database(name):
        raise ServerError(f"{config.database(name)} is not there, expected the storage's database")
    with _opened(config, name) as query:
        for statement in TIDS:
            for partition in range(config.partitions):
                for (found,) in query(statement, (partition, after, limit)):
                    yield found


def _opened(config: NodeConfig, name: str) -> contextlib.AbstractContextManager[Query]:
    """To read from; its storage may be at work."""
    return _of_server(config.mysql, name) if config.mysql else _of_file(config, name)


@contextlib.contextmanager
def _of_file(config: NodeConfig, name: str) -> Iterator[Query]:
    database = config.database(name)
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", LOCKED, uri=True)) as connection:
            yield lambda statement, values: connection.execute(statement.replace("%s", "?"), values)
    except sqlite3.Error as error:
        raise ServerError(f"{database} cannot be read ({error}), expected the database of a storage of NEO") from error


@contextlib.contextmanager
def _of_server(server: MySQL, name: str) -> Iterator[Query]:
    with sql.connect(server.defaults_file, server.socket, LOCKED) as connection:
        sql.execute(connection, f"USE {sql.identifier(database_name(name))}")
        yield lambda statement, values: sql.execute(connection, statement, values)
