# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes leave behind for restarts, reprocessing and the next call: `srv/role/state.json`, durable."""

from dataclasses import dataclass, field

from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.state_file import StateFile


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


def _file(config: Config) -> StateFile[RoleState]:
    return StateFile(config.path("srv", "role", "state.json"), RoleState)


def load(config: Config) -> RoleState:
    """The state; the empty one when nothing ever changed. Raises ConfigurationError when it cannot be read."""
    return _file(config).load()


def change(config: Config, **fields: object) -> RoleState:
    """Replace some fields of what there is now; returns the new state. Raises ConfigurationError, OSError.

    Several threads of mariadb-control and an action may do so at the same time.
    """
    return _file(config).change(**fields)


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
