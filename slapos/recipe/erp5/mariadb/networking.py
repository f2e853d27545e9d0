# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens TCP for a database that has become a primary, by a restart where the server listens on its socket alone."""

import dataclasses
import socket
import time

from pymysql.connections import Connection

from slapos.recipe.erp5 import process, supervisor
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql_role, start
from slapos.recipe.erp5.mariadb.config import Config

PATIENCE = 120.0
"""Seconds for a server to come back: it may have to recover."""
PAUSE = 0.02


def open_up(config: Config, act: Act, connection: Connection) -> None:
    """Have the service restarted when its server is silent, and wait until it answers. Raises Error."""
    if not sql_role.is_silent(connection):
        return
    note_role(config, connection)
    act.step("restart the server with TCP, as it listens on its socket alone")
    supervisor.restart(config.service)
    deadline = time.monotonic() + PATIENCE
    while not _answers(config):
        if time.monotonic() > deadline:
            raise ServerError(
                f"this database is the primary now and does not answer on {config.network.ipv4}:{config.network.port} "
                f"after a restart, expected an answer within {PATIENCE:g} s: read var/log/mariadb-error.log, and "
                "run this again"
            )
        time.sleep(PAUSE)


def _answers(config: Config) -> bool:
    """Whether the server accepts a connection by TCP, and greets as a server does (a full one greets too)."""
    try:
        address = config.network.ipv4, config.network.port
        with socket.create_connection(address, timeout=1) as probe:
            return bool(probe.recv(1))
    except OSError:
        return False


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
