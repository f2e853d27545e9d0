# SPDX-License-Identifier: GPL-2.0-or-later
"""Takeovers of NEO clusters: the upstream alive, dead or hanging, storages missing, the program killed half-way."""

import contextlib
import os
import signal

import pytest

from slapos.recipe.erp5.neo import node_role
from slapos.recipe.erp5.neo import tid as tids
from tests.service.acting import ended
from tests.service.neo_role_fixtures import Site, Sites
from tests.service.servers import wait_for


def taken_over(new: Site, wrote: dict[str, str]) -> None:
    """It is a primary that takes writes, with what its upstream had, also after all of it was restarted."""
    new.wait("RUNNING")
    assert new.read() == {"before": "kept", **wrote}
    new.write(after="new")
    new.stop()
    new.start()
    new.wait("RUNNING")
    assert new.read() == {"before": "kept", **wrote, "after": "new"}


def test_a_dead_upstream(sites: Sites):
    old, new = sites.pair()
    cut = new.status().backup_tid or 0
    old.stop()
    said = new.acted("takeover")
    assert said == (
        f"this cluster is the primary now, from {tids.text(cut)} on, in place of old; the old primary old could not be"
        " fenced, as its takeover-url is not known here: see that it stays down"
    )
    state = new.state
    assert (state.promotion, state.fence_pending) == (None, None)
    assert state.last and (state.last.action, state.last.tid, state.last.unfenced) == ("takeover", tids.text(cut), True)
    assert new.outcomes() == [("takeover", "done")]
    assert new.refused("takeover") == (
        "takeover is refused: this cluster is a primary (RUNNING), expected a backup: there is nothing to take over"
    )
    taken_over(new, {})


def test_a_living_upstream_is_fenced_and_stays_so(sites: Sites):
    old, new = sites.pair()
    (last,) = old.write(during="also")
    new.wait_for_all_of(old)
    refusal = new.refused("takeover")
    assert refusal == (
        "takeover is refused: the upstream old answers, and could go on writing, expected to be able to fence it: give"
        " its takeover-url (control-url), or stop its masters; or force it (--force), and accept that"
    )
    said = new.acted("takeover", control_url=old.url)
    assert said == (
        f"this cluster is the primary now, from {tids.text(last)} on, in place of old; the old primary old is fenced"
    )
    assert old.fenced()
    # It is told where it was cut, for when it comes back.
    wait_for(lambda: old.state.fenced and old.state.fenced.tid == tids.text(last), "the old one to know of the tid")
    wait_for(lambda: new.state.fence_pending is None, "that to be done")
    old.stop()
    old.start()
    assert old.fenced()
    assert old.refused("resume").startswith("resume is refused: it was fenced at ")
    taken_over(new, {"during": "also"})


def test_what_was_acknowledged_up_to_the_fence_is_there(sites: Sites):
    old, new = sites.pair()
    with old.hostile_clients() as attempts:
        wait_for(lambda: attempts.written() > 20, "some writes")
        said = new.acted("takeover", control_url=old.url)
    assert said.endswith("; the old primary old is fenced")
    ours, theirs = old.stored(), new.stored()
    assert len(ours) > attempts.written() > 20
    assert set(ours) <= set(theirs)
    assert new.state.last and new.state.last.tid == tids.text(ours[-1])
    assert ours == old.stored()


def test_an_upstream_that_comes_back_is_fenced_then(sites: Sites):
    old, new = sites.pair(control_url="")
    old.stop()
    said = new.acted("takeover", control_url=old.url)
    assert "; the old primary old is not fenced yet (" in said
    assert said.endswith("): that is tried until it succeeds")
    old.start()
    wait_for(old.fenced, "the old primary to be fenced")
    wait_for(lambda: new.state.fence_pending is None, "that to be noted")
    wait_for(lambda: ("fence-old-primary", "done") in new.outcomes(), "an entry in the journal")
    assert old.acted("resume", force=True).startswith("this cluster is fenced no longer, and ")
    old.wait("RUNNING")


def test_an_upstream_that_hangs(sites: Sites):
    old, new = sites.pair()
    master = old.nodes[0].pid("master")
    os.kill(master, signal.SIGSTOP)
    try:
        assert new.status().cluster_state == "BACKINGUP"  # nothing has noticed
        said = new.acted("takeover", control_url=old.url)
        assert said.endswith("; the old primary old is fenced")
        assert old.fenced()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(master, signal.SIGCONT)
    taken_over(new, {})


def test_a_fence_whose_nodes_cannot_be_reached_is_none(sites: Sites):
    old, new = sites.pair()
    old.nodes[0].end("control")
    said = new.refused("takeover", control_url=old.url)
    assert said.startswith("the old primary old answers and could not be fenced (")
    assert "not all masters could be stopped (neo-node-0: " in said
    assert said.endswith(
        "expected its masters to be stopped: this cluster is a backup still; remove the cause, or force it"
    )
    assert new.status().cluster_state == "BACKINGUP"
    # What was begun is completed by itself, as soon as the node answers.
    old.nodes[0].start_control()
    wait_for(old.fenced, "the fence to be put up")
    assert new.acted("takeover", control_url=old.url).endswith("; the old primary old is fenced")


def test_a_node_that_was_away_while_its_cluster_was_fenced_serves_nobody(sites: Sites):
    old, new = sites.pair()
    node = old.nodes[0]
    node.end()  # as with its machine; the cluster's own partition is on another one
    new.wait("STARTING_BACKUP")
    warned = ended(new.act("takeover", "--dry-run", control_url=old.url), everything=True)
    assert warned[0] == 0
    assert (
        "warn: of the nodes of old, neo-node-0 cannot be reached by its own partition, and are fenced as soon as they"
        " can: see that no master runs there\n"
    ) in warned[1]
    said = new.acted("takeover", control_url=old.url)
    assert said.endswith(
        "; the old primary old is fenced, but of its nodes, neo-node-0 could not be reached: see that no master runs"
        " there"
    )
    new.wait("RUNNING")
    not_yet = "the old primary old is fenced, but of its nodes, neo-node-0 could not be reached since "
    assert not_yet in new.judged()
    # The node comes back, and nobody is there to tell it of the fence.
    for name in node.config.services:
        node.start_service(name)
    log = node.folder / "var/log/service-master.log"
    wait_for(lambda: "the cluster old is fenced since " in log.read_text(), "the master to be held up")
    assert not node.runs_master() and node_role.of(node.config).load().fenced is None
    node.start_control()
    wait_for(old.fenced, "the node to be fenced as well")
    wait_for(lambda: new.state.fence_pending is None, "the new primary to know of it")
    assert not_yet not in new.judged()
    assert not node.runs_master()
    old.acted("resume", force=True)
    old.wait("RUNNING")


def test_another_ones_token_fences_nobody(sites: Sites):
    old, new = sites.pair()
    said = new.refused("takeover", control_url=new.url)
    assert "says: the control URL is that of the cluster new, expected that of old" in said
    assert not old.fenced() and not new.fenced()


@pytest.mark.parametrize(
    "place",
    [
        "before:neo.old_primary:fence",
        "after:neo.old_primary:fence",
        "before:neo.promote:begin",
        "after:neo.promote:begin",
        "after:neo.ask:Asker.set_state",
        "before:neo.promote:sentence",
    ],
)
def test_killed_half_way_the_next_call_completes_it(sites: Sites, place: str):
    old, new = sites.pair()
    code, _ = ended(new.act("takeover", place=place, control_url=old.url))
    assert code == -signal.SIGKILL
    if new.status().cluster_state in ("BACKINGUP", "STARTING_BACKUP"):
        code, said = new.in_turn("takeover", control_url=old.url)
        assert code == 0, said
    # Otherwise NEO gets there by itself, and neo-control notes it.
    wait_for(lambda: new.state.last is not None, "the takeover to be noted")
    assert new.state.promotion is None
    wait_for(old.fenced, "the old primary to be fenced")
    if place != "before:neo.promote:sentence":  # the state knows it, and the journal comes last
        wait_for(lambda: ("takeover", "done") in new.outcomes(), "an entry in the journal")
    taken_over(new, {})


def test_a_missing_storage_without_replica(sites: Sites):
    old, new = sites.pair(storages=2)
    old.stop()
    new.nodes[0].end("service-storage-1")
    new.wait("RECOVERING")
    said = new.refused("takeover")
    assert said.startswith("takeover is refused: this cluster is RECOVERING, as it waits for the storages S")
    assert f" at {new.config.nodes[0].storages[1]} (DOWN), expected BACKINGUP or STARTING_BACKUP: start them" in said
    new.nodes[0].start_service("storage-1")
    new.wait("STARTING_BACKUP")
    new.acted("takeover")
    taken_over(new, {})


def test_a_missing_storage_with_replicas_needs_force(sites: Sites):
    old, new = sites.pair(storages=2, replicas=1)
    old.stop()
    new.nodes[0].end("service-storage-1")
    wait_for(lambda: any(one.state == "DOWN" for one in new.status().nodes), "the storage to be missed")
    said = new.refused("takeover")
    assert "the cluster would stay RECOVERING until they come back; start it, or force it" in said
    new.acted("takeover", force=True)
    new.nodes[0].start_service("storage-1")
    taken_over(new, {})


def test_a_first_copy_that_is_not_complete(sites: Sites):
    old = sites("old").start()
    old.wait("RUNNING")
    old.write(before="kept")
    new = sites("new", old)
    old.stop()
    new.start()
    new.wait("STARTING_BACKUP")
    said = new.refused("takeover", force=True)
    assert said == (
        "takeover is refused: nothing of the upstream is here, and a part of a database is none to take over, expected"
        " all of it: start the upstream old, as this cluster cannot take its place; if that is lost, there is nothing"
        " here to go on with, and another backup or a new cluster is the only way"
    )
    assert "and a part of a database is none to detach" in new.refused("detach", force=True)


def test_detach_leaves_the_upstream_alone(sites: Sites):
    old, new = sites.pair()
    said = new.acted("detach")
    assert said.startswith("this cluster follows old no longer, and takes writes, since 0x")
    assert said.endswith("; nothing was done to old")
    old.write(here="old")
    assert old.read() == {"before": "kept", "here": "old"}
    taken_over(new, {})
    assert not old.fenced()
