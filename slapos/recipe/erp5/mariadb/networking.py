# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens TCP for a database that has become a primary, by a restart where the server listens on its socket alone."""

import dataclasses

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.mariadb import sql_role, start
from slapos.recipe.erp5.mariadb.action import Act
from slapos.recipe.erp5.mariadb.config import Config


def open_up(config: Config, act: Act, connection: Connection) -> None:
    """Have the service restarted when its server is silent, and wait until it answers. Raises Error."""
    if not sql_role.is_silent(connection):
        return
    note_role(config, connection)
    act.step("restart the server with TCP, as it listens on its socket alone")
    connection.close()
    raise NotImplementedError


def note_role(config: Config, connection: Connection) -> None:
    """Let the next start not be held up by what is done already: that this is no replica any more (start.py)."""
    path = config.data_directory / start.STATE
    before = start.read_state(path)
    if before is None:
        return
    sql_role.write_system_tables(connection)
    try:
        now = start.present(config)
        start.write_state(path, dataclasses.replace(before, replica=now.replica, files=now.files))
    except OSError as error:
        process.log(f"warning: {process.describe(error)}; the next start takes longer")
