# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what changes of a NEO cluster's role have left to do, and whether it is what the last one made it."""

from collections.abc import Iterator

from slapos.recipe.erp5.neo.node_role import NodeFence
from slapos.recipe.erp5.neo.status import Snapshot
from slapos.recipe.erp5.words import listing

RUNNING = "RUNNING"


def problems(snapshot: Snapshot) -> Iterator[str]:
    """What is wrong with the role; nothing of what an action is at right now."""
    yield from _unfenced(snapshot)
    if snapshot.acting:
        return
    yield from _unfinished(snapshot)
    yield from _fenced(snapshot)
    yield from _rejoined(snapshot)


def _fenced(snapshot: Snapshot) -> Iterator[str]:
    fenced = snapshot.role.fenced
    if fenced is None:
        return
    state = snapshot.status.cluster_state
    but = f", and yet it is {state}" if state else ""
    undone = (
        f"; {', '.join(fenced.undone)} could not be reached, and neo-control goes on trying" if fenced.undone else ""
    )
    yield (
        f"the masters of this cluster are stopped since {fenced.at}, by {fenced.by} ({fenced.reason}){but}{undone},"
        " expected a cluster without a fence: bin/neo-resume, or bin/neo-rejoin if another cluster is the primary now"
    )


def _unfinished(snapshot: Snapshot) -> Iterator[str]:
    promotion, rejoin = snapshot.role.promotion, snapshot.role.rejoin
    if promotion:
        yield (
            f"the {promotion.action} that was begun at {promotion.at} did not come to its end, expected it to: run"
            f" bin/neo-{promotion.action} again, which completes it or begins anew"
        )
    if rejoin:
        yield (
            f"the rejoin of {rejoin.upstream.cluster} that was begun at {rejoin.at} did not come to its end, expected"
            " it to: see that all nodes and their neo-node-control run, and neo-control completes it"
        )


def _unfenced(snapshot: Snapshot) -> Iterator[str]:
    pending, last = snapshot.role.fence_pending, snapshot.role.last
    if pending and pending.undone:
        yield (
            f"the old primary {pending.cluster} is fenced, but of its nodes, {listing(pending.undone)} could not be"
            f" reached since {pending.since}, expected all of its masters to be stopped: see that none runs there, and"
            " neo-control goes on asking"
        )
    elif pending and last and last.unfenced:
        yield (
            f"the old primary {pending.cluster} is not fenced yet, as its control page has not answered since"
            f" {pending.since}, expected its masters to be stopped: see that nobody writes to it, and neo-control"
            " goes on trying"
        )


def _rejoined(snapshot: Snapshot) -> Iterator[str]:
    upstream, last = snapshot.role.upstream, snapshot.role.last
    if upstream is None or last is None or snapshot.role.fenced:
        return
    since = f"since {last.at} (by {last.action})"
    if snapshot.status.cluster_state == RUNNING and snapshot.role.promotion is None:
        yield (
            f"the cluster is {RUNNING} and takes writes, expected a backup of {upstream.cluster}, which it is {since}:"
            " bin/neo-fence here, and then bin/neo-rejoin; or look who has made it a primary"
        )
    asked = snapshot.config.requested_upstream
    if asked is None or asked.cluster != upstream.cluster:
        says = f"upstream-cluster says {asked.cluster}" if asked else "upstream-cluster is empty"
        yield (
            f"this cluster is a backup of {upstream.cluster} {since}, while {says}, expected parameters that say what"
            f" it is: set upstream-cluster to {upstream.cluster} and upstream-masters to {upstream.masters}, which"
            " restarts nothing"
        )


def node(fenced: NodeFence | None) -> Iterator[str]:
    """What is wrong with the role of a node."""
    if fenced:
        yield (
            f"the master of this node is stopped since {fenced.at}, by {fenced.by} ({fenced.reason}), expected it to"
            " run: bin/neo-resume in the cluster's partition, or bin/neo-rejoin there if another cluster is the"
            " primary now"
        )
