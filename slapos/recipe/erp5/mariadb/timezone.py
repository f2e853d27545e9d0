# SPDX-License-Identifier: GPL-2.0-or-later
"""Fills the server's time-zone tables from the release's zoneinfo files."""

import hashlib
import os
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.config import Config


def fingerprint(zoneinfo: str | Path) -> str:
    """A hash of all names and contents below the folder `zoneinfo`; installing the same again does not change it.

    Raises ConfigurationError when it is not a folder of time zones: loading it would empty the tables.
    """
    if not Path(zoneinfo, "UTC").is_file():
        raise ConfigurationError(f"{zoneinfo} has no time zones (no file UTC): reinstall the release")
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(zoneinfo):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(zoneinfo)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def load(config: Config, connection: Connection, socket: Path) -> None:
    """Replace the contents of the time-zone tables, unlogged: 7083 GTIDs would break a strict replica (measured).

    Raises ConfigurationError when there are none to load, CommandError, or ServerError when the server still does not
    know them afterwards.
    """
    fingerprint(config.software.zoneinfo)  # nothing to load must not empty what is loaded
    with process.step("load the time zones"):
        generator = [config.program("mariadb-tzinfo-to-sql"), "--skip-write-binlog", config.software.zoneinfo]
        statements = process.run(generator, "read the time zones").stdout
        client = [
            config.program("mariadb"),
            f"--defaults-file={config.defaults_file}",
            f"--socket={socket}",
            "--sandbox",
            "--init-command=SET SESSION sql_log_bin = 0",
            "mysql",
        ]
        process.run(client, "load the time zones", stdin=statements)
        if not sql.knows_time_zones(connection):
            raise ServerError(
                f"the time zones of {config.software.zoneinfo} were loaded and Europe/Paris is still unknown:"
                " look for mysql.time_zone tables that are broken"
            )
