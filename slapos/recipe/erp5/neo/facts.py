# SPDX-License-Identifier: GPL-2.0-or-later
"""All that the control page, status.json and the metrics tell of a NEO cluster, gathered from what is at hand.

The cluster is not asked: the sampler has looked a moment ago, and promises have written what they found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import action, facts, journal
from slapos.recipe.erp5.control.sampler import Sample, Sampler
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.neo import look as looks
from slapos.recipe.erp5.neo import role_state, verdict
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Node, Status
from slapos.recipe.erp5.neo.config import PROGRAMS, ClusterConfig, Upstream
from slapos.recipe.erp5.neo.role_state import RoleState
from slapos.recipe.erp5.neo.status import Snapshot
from slapos.recipe.erp5.words import listing

CLUSTER = "neo-cluster"
"""The promise whose judgement is made here anew, of the last look."""


@dataclass(frozen=True)
class Facts(facts.Facts):
    """Everything. `role` is primary, backup, fenced or unknown; `state` is NEO's own, for `reason` when it is empty.

    `requested` is what the parameters ask for. `upstream` is what it follows, or would without its fence; tids are
    texts, empty for none; `lag` in seconds, None when that is not known; `summary` how well it stands, if it does.
    """

    requested: str
    role: str
    cluster: str
    state: str
    reason: str
    upstream: str
    upstream_masters: str
    backup_tid: str
    last_tid: str
    lag: int | None
    first_copy: bool
    cells_out_of_date: int
    partitions: int
    replicas: int
    nodes: tuple[Node, ...]
    summary: str
    samples: tuple[Sample, ...]


def gather(config: ClusterConfig, sampler: Sampler, now: datetime) -> Facts:
    """Raises ConfigurationError."""
    look, promises = sampler.look, tuple(facts.promises(config))
    status = look.status if look else Status(reason="nobody has looked yet: wait a moment")
    state, trouble = _role(config)
    upstream = looks.follows(config, state)
    judged = verdict.cluster(Snapshot(config, look.at, status, role=state)) if look else None
    role = role_of(status, state)
    follows = upstream if role == "backup" or state.rejoin else None
    return Facts(
        instance=config.instance,
        at=times.text(look.at) if look else "",
        problems=(*facts.problems(look, judged, promises, now, PROGRAMS, CLUSTER), *trouble),
        notes=tuple(notes(state)),
        running=action.current(config),
        actions=journal.last(config, 10),
        promises=promises,
        now=now,
        requested=_requested(config.requested_upstream),
        role=role,
        cluster=config.cluster,
        state=status.cluster_state,
        reason=status.reason,
        upstream=follows.cluster if follows else "",
        upstream_masters=follows.masters if follows else "",
        backup_tid="" if status.backup_tid is None else tids.text(status.backup_tid),
        last_tid="" if status.last_tid is None else tids.text(status.last_tid),
        lag=look.sample.lag if look else None,
        first_copy=status.first_copy_goal is not None,
        cells_out_of_date=status.cells_out_of_date,
        partitions=status.partitions,
        replicas=status.replicas,
        nodes=status.nodes,
        summary=" ".join(judged.sentences) if judged and judged.good else "",
        samples=sampler.hour(),
    )


def _role(config: ClusterConfig) -> tuple[RoleState, tuple[str, ...]]:
    try:
        return role_state.of(config).load(), ()
    except Error as error:
        return RoleState(), (str(error),)


def _requested(upstream: Upstream | None) -> str:
    """By the parameters alone, whatever actions have changed since."""
    return f"backup of {upstream.cluster}" if upstream else "primary"


# ---- decide


def role_of(status: Status, state: RoleState) -> str:
    """What the cluster is, in a word."""
    if state.fenced:
        return "fenced"
    if status.backup_tid is not None or status.cluster_state in ("STARTING_BACKUP", "BACKINGUP", "STOPPING_BACKUP"):
        return "backup"
    return "primary" if status.cluster_state == "RUNNING" else "unknown"


def notes(state: RoleState) -> Iterator[str]:
    """What the last changes of role have left, and is worth knowing."""
    if state.fenced and state.fenced.new_primary:
        same = f"; both have the same up to {state.fenced.tid}" if state.fenced.tid else ""
        yield f"It was stopped for {state.fenced.new_primary.cluster} to be the primary in its place{same}"
    if state.promotion:
        yield f"A {state.promotion.action} was begun at {state.promotion.at} and has not ended: run it again"
    if state.rejoin:
        yield (
            f"A rejoin of {state.rejoin.upstream.cluster} was begun at {state.rejoin.at} and has not ended: it goes"
            " on by itself"
        )
    if state.fence_pending:
        name, since = state.fence_pending.cluster, state.fence_pending.since
        unfenced = state.last is not None and state.last.unfenced
        what = "could not be stopped" if unfenced else "is stopped, and was not told yet what the takeover kept,"
        if undone := listing(state.fence_pending.undone):
            what = f"is stopped, but for what may run on its {undone},"
        yield f"The old primary {name} {what} since {since}; this is tried again every few seconds"
    if state.last and not state.last.primary_now:
        yield f"The last change of role was the {state.last.action} of {state.last.at}, cut at {state.last.tid}"
