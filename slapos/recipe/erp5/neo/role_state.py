# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes of a NEO cluster leave behind for restarts and for the next call: `srv/role/state.json`."""

from dataclasses import dataclass, field

from slapos.recipe.erp5.neo.config import ClusterConfig, Upstream
from slapos.recipe.erp5.state_file import StateFile


@dataclass(frozen=True)
class Fence:
    """The masters of this cluster stay stopped: `by` whom, why, since when (times.py).

    `new_primary` is for whom to be the primary, None when people asked for it; `tid` where that one was cut (tid.text),
    once it has said so: up to there both have the same. `undone` are nodes whose masters could not be stopped yet.
    """

    by: str
    reason: str
    at: str
    new_primary: Upstream | None = None
    tid: str = ""
    undone: tuple[str, ...] = ()


@dataclass(frozen=True)
class PendingFence:
    """An old primary `cluster` that has still to be fenced, or to be told `tid`, by `control_url`.

    `undone` are nodes of it whose masters it could not stop yet: its fence holds for all others.
    """

    cluster: str
    control_url: str = field(repr=False)
    since: str
    tid: str = ""
    undone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promotion:
    """`action` (takeover, detach) is about to make this backup a primary, or was killed while it did.

    `tid` is where it is cut (tid.text), `upstream_tid` what the upstream `from_cluster` is known to have had last, or
    empty; `unfenced` and `pending` become Change.unfenced and RoleState.fence_pending.
    """

    action: str
    from_cluster: str
    tid: str
    at: str
    upstream_tid: str = ""
    unfenced: bool = False
    pending: PendingFence | None = None
    forced: bool = False


@dataclass(frozen=True)
class Rejoin:
    """The cluster is about to become a backup of `upstream`: `id` names this attempt for the nodes.

    `reset`: with new storages, the old ones being kept. `tid` is up to where both are the same.
    """

    id: str
    upstream: Upstream
    reset: bool
    tid: str
    at: str


@dataclass(frozen=True)
class Change:
    """The last change of role: `from_cluster` is the primary before it, `primary_now` the one after it.

    `primary_now` is empty where this cluster itself became the primary; `tid` is where it was cut.
    """

    action: str
    at: str
    from_cluster: str
    primary_now: str
    tid: str = ""
    unfenced: bool = False


@dataclass(frozen=True)
class RoleState:
    """All of it; `upstream` is what a rejoin made it follow, in place of the parameters."""

    fenced: Fence | None = None
    promotion: Promotion | None = None
    rejoin: Rejoin | None = None
    upstream: Upstream | None = None
    upstream_control_url: str = field(default="", repr=False)
    fence_pending: PendingFence | None = None
    last: Change | None = None


def of(config: ClusterConfig) -> StateFile[RoleState]:
    """The state of the cluster's partition."""
    return StateFile(config.path("srv", "role", "state.json"), RoleState)
