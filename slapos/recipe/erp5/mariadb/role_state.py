# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes leave behind for restarts, reprocessing and the next call: `srv/role/state.json`, durable."""

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control.journal import folder
from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.mariadb.config import Config


@dataclass(frozen=True)
class Fence:
    """This database stays read-only, whatever its role: `by` whom, why, since when (times.py).

    `new_primary` (a URL without account) is for whom to be the primary, empty when people asked for it; `hand_over` is
    the public name of the hand-over that put it up, and may take it away.
    """

    by: str
    reason: str
    at: str
    new_primary: str = ""
    hand_over: str = ""


@dataclass(frozen=True)
class HandOver:
    """On an old primary: it was fenced to hand over to `to_primary_url` (no password), and stopped at `gtid`."""

    id: str
    to_control: str
    to_primary_url: str
    gtid: str
    at: str


@dataclass(frozen=True)
class PendingFence:
    """An old primary that could not be reached and has still to be fenced, by `control_url`."""

    address: str
    control_url: str = field(repr=False)
    since: str


@dataclass(frozen=True)
class Promotion:
    """On a new primary: `action` (takeover, detach, switchover) is about to promote it, or was killed while it did.

    `from_address` is its old primary's, `gtid` what had been applied; `unfenced` and `pending` become Change.unfenced
    and RoleState.fence_pending.
    """

    action: str
    from_address: str
    gtid: str
    at: str
    hand_over_id: str = ""
    unfenced: bool = False
    pending: PendingFence | None = None


@dataclass(frozen=True)
class Upstream:
    """What a role action made this database follow; it takes the place of the parameter `replication`.

    `primary_url` is whole, with its password; `control_url` is the primary's takeover-url, or empty.
    """

    primary_url: str = field(repr=False)
    tls: bool = True
    bootstrap_url: str = field(default="", repr=False)
    control_url: str = field(default="", repr=False)


@dataclass(frozen=True)
class Change:
    """The last change of role: `from_address` is the primary before it, `primary_url_now` the one after it.

    `primary_url_now` has no password, and is empty where this database itself became the primary; `unfenced`: the old
    primary could not be fenced then.
    """

    action: str
    at: str
    from_address: str
    primary_url_now: str
    unfenced: bool = False


@dataclass(frozen=True)
class RoleState:
    """All of it; `authority_dropped`: replication.control-url counts no longer, as after a detach."""

    fenced: Fence | None = None
    hand_over: HandOver | None = None
    promotion: Promotion | None = None
    upstream: Upstream | None = None
    fence_pending: PendingFence | None = None
    last: Change | None = None
    authority_dropped: bool = False


def _path(config: Config) -> Path:
    return config.path("srv", "role", "state.json")


def load(config: Config) -> RoleState:
    """The state; the empty one when nothing ever changed. Raises ConfigurationError when it cannot be read."""
    path = _path(config)
    return shapes.load(path, RoleState) if path.exists() else RoleState()


def save(config: Config, state: RoleState) -> None:
    """Replace it, whole or not at all, power cuts included. Raises OSError."""
    folder(config)
    shapes.save(_path(config), state)


def change(config: Config, **fields: object) -> RoleState:
    """Replace some fields of what there is now; returns the new state. Raises ConfigurationError, OSError."""
    with _locked(config):
        before = load(config)
        after = dataclasses.replace(before, **fields)  # type: ignore[arg-type]
        if after != before:
            save(config, after)
    return after


@contextlib.contextmanager
def _locked(config: Config) -> Iterator[None]:
    """One change at a time: several threads of mariadb-control and an action may make one each; waits for its turn."""
    descriptor = os.open(folder(config) / "state.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def control_url(config: Config, state: RoleState, given: str = "") -> str:
    """The token of our primary that we have: given now, noted by an action, or a parameter; empty for none."""
    if given:
        return given
    if state.upstream and state.upstream.control_url:
        return state.upstream.control_url
    if state.authority_dropped or config.replication is None:
        return ""
    if state.upstream and not _is_of(config.replication.primary_url, state.upstream):
        return ""  # the parameter is about another primary
    return config.replication.control_url


def _is_of(primary_url: str, upstream: Upstream) -> bool:
    return primary.parse(primary_url).address == primary.parse(upstream.primary_url).address
