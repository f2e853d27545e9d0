# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings a data directory to the server's version, and tells both versions while no server runs."""

import re
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CommandError
from slapos.recipe.erp5.mariadb.config import Server

MARKS = ("mariadb_upgrade_info", "mysql_upgrade_info")
"""Where mariadb-install-db and mariadb-upgrade note the version: 10.11.19 in the second, later series in the first."""


def data_version(data_directory: Path) -> str:
    """The version that the data directory was last brought to, such as 10.11.19-MariaDB; empty when it does not say."""
    for mark in MARKS:
        try:
            return (data_directory / mark).read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return ""


def server_version(server: Server) -> str:
    """The version of the release's mariadbd, such as 10.11.19-MariaDB-0+deb12u1. Raises CommandError."""
    program = Path(server.mariadb, "sbin", "mariadbd")
    output = process.run([program, "--no-defaults", "--version"], "ask MariaDB for its version").stdout
    match = re.search(rb"Ver (\S+)", output)
    if match is None:
        raise CommandError(f"cannot ask MariaDB for its version: {program} said {process.last_words(output)}")
    return match[1].decode()


def upgrade(server: Server, socket: Path) -> None:
    """Run mariadb-upgrade, which writes nothing into the binary log, and its mark only when all is done.

    Raises CommandError; a start after that must not serve what is half upgraded, and the next one begins again.
    """
    command = [
        str(Path(server.mariadb, "bin", "mariadb-upgrade")),
        f"--defaults-file={server.defaults_file}",
        f"--socket={socket}",
        "--skip-write-binlog",
        "--force",  # `decide` knows when: it would not make a missing table in a directory of its own series
    ]
    with process.step("upgrade the system tables"):
        process.run(command, "upgrade the system tables, so the service does not start")
