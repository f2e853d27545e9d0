# SPDX-License-Identifier: GPL-2.0-or-later
"""What stays known of replication when the other side is gone: the last lag, and which replicas were there when."""

import contextlib
import dataclasses
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import ConfigurationError

T = typing.TypeVar("T")


@dataclass(frozen=True)
class Lag:
    """The last known lag, in seconds, and the moment of it (`at` is empty: never known); since when it is unknown."""

    seconds: int = 0
    at: str = ""
    unknown_since: str = ""


@dataclass(frozen=True)
class Seen:
    """When a replica was last connected."""

    server_id: int
    at: str


@dataclass(frozen=True)
class Replicas:
    """Those that were ever connected, and are worth remembering."""

    replicas: tuple[Seen, ...] = ()


def load(path: Path, cls: type[T]) -> T:
    """What the file says; nothing known when there is none, or none that can be used."""
    try:
        return shapes.load(path, cls)
    except ConfigurationError:
        return cls()


def save(path: Path, memory: Lag | Replicas) -> None:
    """Replace the file, whole or not at all. What cannot be written is known less well the next time, no more."""
    with contextlib.suppress(OSError):
        shapes.save(path, memory, durable=False)


def with_lag(before: Lag, seconds: int | None, now: datetime) -> Lag:
    """What is known after a look that has told `seconds`, or nothing."""
    if seconds is not None:
        return Lag(seconds, times.text(now))
    return dataclasses.replace(before, unknown_since=before.unknown_since or times.text(now))


def with_connected(before: Replicas, connected: Iterable[int], now: datetime, keep: timedelta) -> Replicas:
    """What is known after a look; who was not seen for longer than `keep` is forgotten."""
    known = {seen.server_id: seen for seen in before.replicas if now - times.parse(seen.at) <= keep}
    known |= {server_id: Seen(server_id, times.text(now)) for server_id in connected}
    return Replicas(tuple(known[server_id] for server_id in sorted(known)))
