# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes a snapshot of a balancer: its supervisor, and what haproxy knows of each Zope."""

import csv
import socket
from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import process, supervisor
from slapos.recipe.erp5.balancer.config import Config
from slapos.recipe.erp5.supervisor import Supervised

TIMEOUT = 10
"""Seconds that haproxy has to tell."""


@dataclass(frozen=True)
class Server:
    """A Zope as the last check found it: `serves`, or `stands_by` (its supervisor answers), or else `detail` tells why
    not."""

    family: str
    address: str
    serves: bool
    stands_by: bool
    detail: str


@dataclass(frozen=True)
class Snapshot:
    """`silence` says why haproxy does not answer, `refusal` why it did not take the last configuration; empty: it did.

    `families` are those that it serves.
    """

    config: Config
    now: datetime
    supervised: Supervised | None
    silence: str
    refusal: str
    families: frozenset[str]
    servers: tuple[Server, ...]


def gather(config: Config, now: datetime) -> Snapshot:
    """Ask haproxy how things stand."""
    silence, rows = "", []
    try:
        rows = parse(ask(config))
    except OSError as error:
        silence = process.reason(error)
    families = frozenset(row["pxname"] for row in rows if row["svname"] == "FRONTEND")
    # The same servers are in the backends that are used when none serves, unchecked.
    servers = tuple(server(row) for row in rows if row["type"] == "2" and row["pxname"] in families)
    try:
        refusal = config.refusal.read_text(encoding="utf-8")
    except FileNotFoundError:
        refusal = ""
    return Snapshot(config, now, supervisor.status(config.service), silence, refusal, families, servers)


def ask(config: Config) -> str:
    """haproxy's statistics, CSV. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(config.socket))
        connection.sendall(b"show stat\n")
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def parse(text: str) -> list[dict[str, str]]:
    """The rows of the statistics: pxname is the frontend's or backend's name, svname the server's."""
    return list(csv.DictReader(text.removeprefix("# ").splitlines()))


def server(row: dict[str, str]) -> Server:
    """What a row of a server says."""
    serves = row["status"].startswith("UP")
    stands_by = not serves and row["check_code"] == "503"
    detail = row["last_chk"] or row["check_desc"] or row["status"]
    return Server(row["pxname"], row["svname"], serves, stands_by, detail)
