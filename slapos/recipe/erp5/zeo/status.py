# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers how a ZEO server and its backups stand right now. It judges nothing."""

import contextlib
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import State
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.supervisor import Supervised
from slapos.recipe.erp5.zeo import repository
from slapos.recipe.erp5.zeo.config import Config

TIMEOUT = 5.0
"""Seconds that the server has to answer."""
GREETING = 4 + 2
"""Bytes with which a ZEO server greets: a length, and the name of its protocol, such as Z5."""


@dataclass(frozen=True)
class Storage:
    """A database: its `size` in bytes, and the path where it is `lost`, or empty."""

    name: str
    size: int
    lost: str = ""


@dataclass(frozen=True)
class Server:
    """The server at the moment `at`; `supervised` is None when no supervisor runs; `silent`: why it does not answer.

    `unserved` are databases that are there, and that `storages` does not name.
    """

    config: Config
    at: datetime
    supervised: Supervised | None
    silent: str
    storages: tuple[Storage, ...]
    unserved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backups:
    """The backups of a storage; `created` is when its database was made (None: not yet), `last` when the last good run
    was begun; `newest` is the file and the moment of the newest backup, `damage` why it cannot be restored.

    `chains` are counted, and `size` is what they take in bytes; `unusable` says why they cannot be looked at.
    """

    storage: str
    folder: str
    created: datetime | None
    last: datetime | None = None
    newest: str = ""
    damage: str = ""
    chains: int = 0
    size: int = 0
    unusable: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All backups of a partition at the moment `at`, and what the scheduler says."""

    config: Config
    at: datetime
    scheduler: State
    backups: tuple[Backups, ...]


def server(config: Config, now: datetime, greet: bool = True) -> Server:
    """Look at the server, and have it greet us, unless it is known to answer."""
    return Server(
        config=config,
        at=now,
        supervised=supervisor.status(config.service),
        silent=silence(config.host, config.port) if greet else "",
        storages=tuple(storage(config, name) for name in config.storages),
        unserved=tuple(unserved(config)),
    )


def storage(config: Config, name: str) -> Storage:
    """Look at the file of a storage."""
    lost = config.set_up(name).exists() and not config.has_database(name)
    return Storage(name, length(config.database(name)), str(config.database(name)) if lost else "")


def unserved(config: Config) -> list[str]:
    """The storages that were made here, and are not asked for any more."""
    folder = config.path("srv", "zodb")
    made = [path.name.removesuffix(".set-up") for path in folder.glob("*.set-up")] if folder.is_dir() else []
    return sorted(set(made) - set(config.storages))


def silence(host: str, port: int, timeout: float = TIMEOUT) -> str:
    """Why no ZEO server greets there, empty when one does."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            said = b""
            while len(said) < GREETING:
                if not (more := connection.recv(64)):
                    return "it ended the connection"
                said += more
    except OSError as error:
        return process.reason(error)
    # Z for pickles, M for MessagePack.
    return "" if said[4:5] in (b"Z", b"M") else "who answers is no ZEO server"


def length(path: Path) -> int:
    """Bytes in a file; 0 when it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def snapshot(config: Config, now: datetime) -> Snapshot:
    """Read the records of all backups, and the scheduler's state. Raises Error when that cannot be read."""
    found = tuple(backups(config, name) for name in config.storages)
    return Snapshot(config, now, state.load(config.scheduler_state), found)


def backups(config: Config, name: str) -> Backups:
    """Look at the backups of a storage."""
    folder = config.backups(name)
    empty = Backups(name, str(folder), created(config, name))
    try:
        found = repository.chains(folder)
        last = repository.last(folder)
        newest = found[-1] if found else None
        return Backups(
            storage=empty.storage,
            folder=empty.folder,
            created=empty.created,
            last=times.parse(last.at) if last else None,
            newest=f"{newest.folder.name}/{newest.pieces[-1].path.name}" if newest else "",
            damage=repository.damage(newest) if newest else "",
            chains=len(found),
            size=repository.bytes_of(found),
        )
    except (BackupError, OSError) as error:
        return Backups(empty.storage, empty.folder, empty.created, unusable=process.describe(error))


def created(config: Config, name: str) -> datetime | None:
    """When the database of a storage was made, or restored for the first time."""
    with contextlib.suppress(OSError, ValueError):
        return times.parse(config.set_up(name).read_text().strip())
    return None
