# SPDX-License-Identifier: GPL-2.0-or-later
"""What promises ask any server, with any account: who it is."""

import contextlib
from dataclasses import dataclass

import pymysql
from pymysql.connections import Connection

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql

# Besides a wrong password: no account matches the client's host, and one that may only change its password.
_REFUSALS = (*sql.DENIALS, 1130, 1820)


@dataclass(frozen=True)
class Identity:
    """Who a server says it is; `addresses` is its bind_address, `uptime` in seconds, no / ends `data_directory`."""

    version: str
    server_id: int
    data_directory: str
    port: int
    addresses: tuple[str, ...]
    networking: bool
    read_only: bool
    uptime: int


class WithoutTls(ServerError):
    """There is a server, and no TLS between it and us."""


def identify(timeout: float, **where: object) -> Identity:
    """Log in, ask the server who it is, and leave as a client should; any account may ask this.

    `where` are pymysql.connect's arguments, TLS only with an `ssl` among them; each step may take `timeout` seconds.
    Raises AccessDenied, WithoutTls when that was asked for and cannot be had, and ServerError for a server that is not
    there, hangs, or speaks another protocol.
    """
    limits = {"connect_timeout": timeout, "read_timeout": timeout, "write_timeout": timeout}
    try:
        # PyMySQL would use TLS, without proof, wherever a server offers it.
        connection = pymysql.connect(**limits, ssl_disabled=not where.get("ssl"), **where)
    except (pymysql.MySQLError, OSError) as error:
        refused = error.args and error.args[0] in _REFUSALS
        kind = sql.AccessDenied if refused else WithoutTls if "SSL" in str(error) else ServerError
        raise kind(sql.words(error)) from error
    with contextlib.closing(connection):
        return _identity(connection)


def _identity(connection: Connection) -> Identity:
    (row,) = sql.rows(
        connection,
        "SELECT VERSION() AS version, @@server_id, @@datadir, @@port, @@bind_address, @@skip_networking, @@read_only,"
        " (SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'UPTIME') AS uptime",
    )
    return Identity(
        version=str(row["version"]),
        server_id=int(str(row["@@server_id"])),
        data_directory=str(row["@@datadir"]).rstrip("/"),
        port=int(str(row["@@port"])),
        addresses=tuple(str(row["@@bind_address"] or "*").split(",")),
        networking=row["@@skip_networking"] == 0,
        read_only=row["@@read_only"] != 0,
        uptime=int(str(row["uptime"])),
    )
