# SPDX-License-Identifier: GPL-2.0-or-later
"""What the making of a replica leaves in its data directory: how it was made, and where from."""

from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config as shapes

BOOTSTRAP = "slapos.bootstrap.json"
"""In the data directory, so that it is always about that very directory."""
MASTER_INFO = "master.info"
"""The file of MariaDB's own with which a data directory is a replica's."""


@dataclass(frozen=True)
class Bootstrap:
    """`method` is a source.Method; `gtid` is where replication begins, empty: with the first binary log.

    `primary` is its `host:port`, and `user` who replicates, over TLS or not; `started` and `ended` are moments
    (times.py).
    """

    method: str
    gtid: str
    primary: str
    user: str
    tls: bool
    server_version: str
    started: str
    ended: str


def load(data_directory: Path) -> Bootstrap | None:
    """The note of a replica that was made by us; None for any other database. Raises ConfigurationError."""
    path = data_directory / BOOTSTRAP
    return shapes.load(path, Bootstrap) if path.exists() else None


def save(data_directory: Path, bootstrap: Bootstrap) -> None:
    """Note it. Raises OSError."""
    shapes.save(data_directory / BOOTSTRAP, bootstrap)
