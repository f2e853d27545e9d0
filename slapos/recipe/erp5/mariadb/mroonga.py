# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs Mroonga, ERP5's full-text search engine, into a running server."""

import re
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.config import Config

_CREATED = re.compile(
    r"^\s*CREATE\s+(?:AGGREGATE\s+)?FUNCTION\s+(?:IF\s+NOT\s+EXISTS\s+)?`?(\w+)", re.IGNORECASE | re.MULTILINE
)


def install(config: Config, connection: Connection) -> None:
    """Install the engine and its functions when they are asked for and absent, unlogged: each server has its own.

    An installation that was interrupted, with the engine and without all functions, is completed.
    Raises ConfigurationError when the MariaDB part has no Mroonga, ServerError when the server refuses it.
    """
    if not config.mroonga:
        return
    active = sql.has_mroonga(connection)
    script = Path(config.software.mariadb, "usr", "share", "mysql", "mroonga", "install.sql")
    try:
        statements = script.read_text(encoding="utf-8")
    except OSError as error:
        if active:  # by other means than ours
            return
        raise ConfigurationError(
            f"mroonga is true, and this MariaDB has no {script} ({error.strerror}): set it to false, or install a"
            " release with Mroonga"
        ) from error
    if active and functions(statements) <= sql.loaded_functions(connection):
        return
    with process.step("install Mroonga"), sql.unlogged(connection):
        sql.execute_script(connection, statements)


def functions(statements: str) -> frozenset[str]:
    """The names of the functions that the text of `install.sql` creates."""
    return frozenset(_CREATED.findall(statements))
