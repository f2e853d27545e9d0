# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the databases of a node's storages aside, so that new ones are made; by renames, after which nothing is lost."""

from collections.abc import Iterable
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.neo.config import MySQL, NodeConfig


def put(config: NodeConfig, storages: Iterable[str], id: str) -> list[Path]:
    """Put aside what all the storages of this node have, which do not run; where it lies then, under a name with `id`.

    Done again with the same `id` it leaves what has been made since. Raises Busy, OSError.
    """
    names = tuple(storages)
    for name in names:  # first: killed in between, what is there is taken for what it is, and nothing is missing
        config.set_up(name).unlink(missing_ok=True)
    server = config.mysql
    kept = [_server(server, id)] if server else [_file(config.database(name), id) for name in names]
    return [path for path in kept if path.exists()]


def _file(database: Path, id: str) -> Path:
    kept = database.with_name(f"{database.name}.replaced-{id}")
    if database.exists() and not kept.exists():
        for suffix in ("-journal", "-wal", "-shm"):
            left = database.with_name(database.name + suffix)
            if left.exists():  # it belongs to the database, which may need it
                left.rename(kept.with_name(kept.name + suffix))
        database.rename(kept)
        process.sync_directory(database.parent)
    return kept


def _server(server: MySQL, id: str) -> Path:
    """All of it: the service script makes a new one at its next start, in which accounts and passwords are the same."""
    data = server.data_directory
    kept = data.with_name(f"{data.name}.replaced-{id}")
    if data.exists() and not kept.exists():
        # The service script's lock, which a server holds as long as anything of it runs.
        with process.lock(f"{data}.lock", f"a server works with {data}, expected it to have ended: try it again"):
            data.rename(kept)
            process.sync_directory(data.parent)
    return kept
