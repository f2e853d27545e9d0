# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promises say of a role change that left something to do: whole sentences."""

import dataclasses

import pytest

from slapos.recipe.erp5.neo import role_verdict, verdict
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.node_role import NodeFence
from slapos.recipe.erp5.neo.role_state import Change, Fence, PendingFence, Promotion, Rejoin, RoleState
from slapos.recipe.erp5.neo.status import Snapshot
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT, NOW, UPSTREAM, URL, status

NEW = Upstream("new", "127.0.0.1:30100")
REJOINED = RoleState(upstream=NEW, last=Change("rejoin", AT, "", "new"))
TAKEN_OVER = Change("takeover", AT, "old", "", "0x0400", True)


def problems(role, found=None, acting=False, **config):
    config = partition.cluster(**config)
    return list(role_verdict.problems(Snapshot(config, NOW, found or Status(), (), role, acting)))


def test_nothing_ever_changed():
    assert problems(RoleState()) == []


@pytest.mark.parametrize(
    ("undone", "state", "more"),
    [
        ((), "", ""),
        ((), "RUNNING", ", and yet it is RUNNING"),
        (("neo-node-1",), "", "; neo-node-1 could not be reached, and neo-control goes on trying"),
    ],
)
def test_a_fence(undone, state, more):
    fenced = Fence("its backup new", "takeover of new", AT, NEW, undone=undone)
    assert problems(RoleState(fenced=fenced), Status(state)) == [
        f"the masters of this cluster are stopped since {AT}, by its backup new (takeover of new){more}, expected a"
        " cluster without a fence: bin/neo-resume, or bin/neo-rejoin if another cluster is the primary now"
    ]


def test_of_a_fenced_cluster_that_nobody_answers_says_nothing_new():
    role = RoleState(fenced=Fence("page", "the action fence", AT))
    found = verdict.cluster(Snapshot(partition.cluster(), NOW, Status(reason="none"), (), role))
    assert (found.good, len(found.sentences)) == (False, 1)


def test_a_promotion_and_a_rejoin_that_stopped_on_the_way():
    role = RoleState(promotion=Promotion("takeover", "old", "0x0400", AT), rejoin=Rejoin("1", NEW, True, "", AT))
    assert problems(role) == [
        f"the takeover that was begun at {AT} did not come to its end, expected it to: run bin/neo-takeover again,"
        " which completes it or begins anew",
        f"the rejoin of new that was begun at {AT} did not come to its end, expected it to: see that all nodes and"
        " their neo-node-control run, and neo-control completes it",
    ]
    assert problems(role, acting=True) == []


def test_an_old_primary_that_is_not_fenced_yet():
    role = RoleState(fence_pending=PendingFence("old", URL, AT), last=TAKEN_OVER)
    assert problems(role, acting=True) == [
        f"the old primary old is not fenced yet, as its control page has not answered since {AT}, expected its masters"
        " to be stopped: see that nobody writes to it, and neo-control goes on trying"
    ]
    assert problems(dataclasses.replace(role, last=dataclasses.replace(TAKEN_OVER, unfenced=False))) == []


@pytest.mark.parametrize("unfenced", [True, False])
def test_an_old_primary_with_nodes_that_it_cannot_reach(unfenced):
    last = dataclasses.replace(TAKEN_OVER, unfenced=unfenced)
    role = RoleState(fence_pending=PendingFence("old", URL, AT, undone=("neo-node-1",)), last=last)
    assert problems(role) == [
        f"the old primary old is fenced, but of its nodes, neo-node-1 could not be reached since {AT}, expected all of"
        " its masters to be stopped: see that none runs there, and neo-control goes on asking"
    ]


def test_parameters_that_know_nothing_of_a_rejoin():
    expected = (
        "expected parameters that say what it is: set upstream-cluster to new and upstream-masters to 127.0.0.1:30100,"
        " which restarts nothing"
    )
    assert problems(REJOINED, status()) == [
        f"this cluster is a backup of new since {AT} (by rejoin), while upstream-cluster is empty, {expected}"
    ]
    assert problems(REJOINED, status(), requested_upstream=UPSTREAM) == [
        f"this cluster is a backup of new since {AT} (by rejoin), while upstream-cluster says old, {expected}"
    ]
    assert problems(REJOINED, status(), requested_upstream=NEW) == []


def test_one_that_rejoined_and_takes_writes():
    assert problems(REJOINED, Status("RUNNING"), requested_upstream=NEW) == [
        f"the cluster is RUNNING and takes writes, expected a backup of new, which it is since {AT} (by rejoin):"
        " bin/neo-fence here, and then bin/neo-rejoin; or look who has made it a primary"
    ]


def test_a_takeover_is_told_while_all_is_well():
    config = partition.cluster(upstream=UPSTREAM, requested_upstream=UPSTREAM)
    found = Status("RUNNING", "M1", 12, 0, None, 1 << 60, 5)
    role = RoleState(last=TAKEN_OVER)
    assert (
        f"; it was a backup of old, and was taken over at {AT} by takeover, cut at 0x0400; nobody has fenced old"
        in (verdict._cluster_summary(Snapshot(config, NOW, found, (), role)))
    )


DETACHED = Change("detach", AT, "old", "", "0x0400")
PRIMARY = Status("RUNNING", "M1", 12, 0, None, 1 << 60, 5)


@pytest.mark.parametrize("last", [TAKEN_OVER, DETACHED])
def test_the_upstream_of_the_last_takeover_may_stay_in_the_parameters(last):
    """The promise itself had asked for it, of a cluster that was created as a primary, and then was a backup."""
    for upstream in (None, NEW):
        config = partition.cluster(upstream=upstream, requested_upstream=UPSTREAM)
        found = Snapshot(config, NOW, PRIMARY, (), RoleState(last=last))
        assert list(verdict._parameter_problems(found)) == []


@pytest.mark.parametrize(("last", "did"), [(TAKEN_OVER, "was taken over"), (DETACHED, "was detached")])
@pytest.mark.parametrize(
    ("upstream", "none", "becomes"),
    [
        (None, "no parameter makes it one", "does"),
        (UPSTREAM, "no parameter changes that", "makes it a backup of new"),
    ],
)
def test_another_upstream_in_the_parameters_is_a_matter_of_a_rejoin(last, did, upstream, none, becomes):
    config = partition.cluster(upstream=upstream, requested_upstream=NEW)
    assert list(verdict._parameter_problems(Snapshot(config, NOW, PRIMARY, (), RoleState(last=last)))) == [
        f"upstream-cluster is new, but the database {did} from old, and {none}: leave upstream-cluster and"
        f" upstream-masters out, or run bin/neo-rejoin, which {becomes}"
    ]


def test_a_detach_is_told_while_all_is_well():
    for upstream in (None, UPSTREAM):
        config = partition.cluster(upstream=upstream, requested_upstream=upstream)
        summary = verdict._cluster_summary(Snapshot(config, NOW, PRIMARY, (), RoleState(last=DETACHED)))
        assert summary.endswith(
            f"; it was a backup of old, and follows it no longer since {AT} by detach, cut at 0x0400"
        )


def test_a_node_that_is_fenced():
    assert list(role_verdict.node(None)) == []
    assert list(role_verdict.node(NodeFence("its backup new", "takeover of new", AT))) == [
        f"the master of this node is stopped since {AT}, by its backup new (takeover of new), expected it to run:"
        " bin/neo-resume in the cluster's partition, or bin/neo-rejoin there if another cluster is the primary now"
    ]
