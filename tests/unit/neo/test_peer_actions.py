# SPDX-License-Identifier: GPL-2.0-or-later
"""What others may ask of a cluster, and what neo-control goes on with, with everything outside it made up."""

import contextlib
import dataclasses

import pytest

from slapos.recipe.erp5.control import action, journal
from slapos.recipe.erp5.errors import Refused, ServerError
from slapos.recipe.erp5.neo import fence, nodes, old_primary, peer_actions, promote, role_state, watch
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.nodes import Answers
from slapos.recipe.erp5.neo.role_state import Change, Fence, PendingFence, Promotion, Rejoin, RoleState
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT, UPSTREAM, URL, status

QUESTION = {
    "cluster": "copy",
    "by": "its backup new",
    "new-cluster": "new",
    "new-masters": "a:9",
    "reason": "takeover",
    "tid": "",
}
NEW = Upstream("new", "a:9")
PROMOTION = Promotion("takeover", "old", "0x0400000000000000", AT)


class World:
    """The cluster's state, what nodes answer, and what they were asked for."""

    def __init__(self) -> None:
        self.status = status(cluster_state="RUNNING", backup_tid=None, last_tid=7)
        self.errors: dict[str, str] = {}
        self.asked: list[str] = []

    def ask(self, config, name, parameters=None):
        self.asked.append(name)
        if not self.errors:
            self.status = Status(reason="nobody answers")
        return Answers({} if self.errors else {"neo-node-0": {}}, self.errors)


class Asker:
    """Answers as the world is."""

    def __init__(self, world: World) -> None:
        self.world = world

    def status(self) -> Status:
        return self.world.status


@pytest.fixture
def world(monkeypatch):
    made = World()
    for module in (fence, peer_actions, watch):
        monkeypatch.setattr(module, "asker", lambda config: contextlib.nullcontext(Asker(made)))
    monkeypatch.setattr(nodes, "ask", made.ask)
    monkeypatch.setattr(nodes, "stored_tids", lambda config, after, limit: [8, 9] if after == 7 else [])
    return made


@pytest.fixture
def config(tmp_path):
    for name in ("srv", "var/run"):
        (tmp_path / name).mkdir(parents=True)
    return partition.cluster(partition=str(tmp_path))


def test_a_primary_is_fenced_and_tells_its_last_transaction(world, config):
    assert peer_actions.do(config, "fence", QUESTION) == {"tid": "0x0000000000000009", "role": "primary", "undone": ""}
    fenced = role_state.of(config).load().fenced
    assert fenced and (fenced.by, fenced.new_primary, fenced.undone) == ("its backup new", NEW, ())
    (entry,) = journal.last(config)
    assert entry.sentence == ("the masters of this cluster are stopped, as its backup new asked for it (takeover)")
    # And once more, to be told where it was cut.
    peer_actions.do(config, "fence", QUESTION | {"tid": "0x0000000000000008"})
    fenced = role_state.of(config).load().fenced
    assert fenced and fenced.tid == "0x0000000000000008"
    # Whoever asks again only hears how far it is: no other action is kept waiting, nor the journal filled.
    with action.running(config, "fence", "page"):
        told = peer_actions.do(config, "fence", QUESTION | {"tid": "0x0000000000000008"})
    assert told == {"tid": "", "role": "primary", "undone": ""}


def test_a_node_that_cannot_be_reached_while_the_cluster_serves_is_no_fence(world, config):
    world.errors = {"neo-node-0": "it does not answer"}
    with pytest.raises(ServerError) as error:
        peer_actions.do(config, "fence", QUESTION)
    assert str(error.value) == (
        "not all masters could be stopped (neo-node-0: it does not answer), and this cluster is RUNNING, expected"
        " nobody to serve it: neo-control goes on trying; see that its nodes' neo-control run"
    )
    fenced = role_state.of(config).load().fenced
    assert fenced and fenced.undone == ("neo-node-0",)
    with pytest.raises(ServerError, match="not all masters of this fenced cluster could be stopped"):
        watch.enforce_fence(config)
    world.errors = {}
    watch.enforce_fence(config)
    fenced = role_state.of(config).load().fenced
    assert fenced and fenced.undone == ()


def test_a_node_that_cannot_be_reached_while_nobody_serves_is_left_for_later(world, config):
    world.errors, world.status = {"neo-node-0": "it does not answer"}, Status()
    assert peer_actions.do(config, "fence", QUESTION) == {"tid": "", "role": "primary", "undone": "neo-node-0"}
    (entry,) = journal.last(config)
    assert entry.sentence.endswith("; neo-node-0 could not be reached, which neo-control goes on with")
    for _ in range(2):
        told = peer_actions.do(config, "fence", QUESTION | {"tid": "0x0000000000000008"})
        assert told == {"tid": "", "role": "primary", "undone": "neo-node-0"}
    fenced = role_state.of(config).load().fenced
    assert fenced and (fenced.tid, fenced.undone) == ("0x0000000000000008", ("neo-node-0",))
    assert len(journal.last(config)) == 2


def test_a_backup_is_not_fenced(world, config):
    world.status = status()
    assert peer_actions.do(config, "fence", QUESTION) == {"tid": "", "role": "backup", "undone": ""}
    assert (world.asked, role_state.of(config).load()) == ([], RoleState())


def test_one_that_is_meant_is_asked(world, config):
    for name, question in (("fence", QUESTION), ("close", {"cluster": "copy"})):
        with pytest.raises(Refused, match="that of the cluster copy, expected that of main: give the takeover-url"):
            peer_actions.do(config, name, question | {"cluster": "main"})
    assert world.asked == []


@pytest.mark.parametrize(
    "state",
    [
        RoleState(fenced=Fence("x", "y", AT, Upstream("third", "a:8"))),
        RoleState(rejoin=Rejoin("1", Upstream("third", "a:8"), True, "", AT)),
    ],
)
def test_it_makes_way_for_one_new_primary_alone(world, config, state):
    role_state.of(config).change(**vars(state))
    with pytest.raises(Refused) as error:
        peer_actions.do(config, "fence", QUESTION)
    assert str(error.value) == (
        f"this cluster is stopped since {AT} for third to be the primary, expected it to be for no other than new: look"
        " there, and rejoin it if it is"
    )


# ---- what goes on by itself


@pytest.mark.parametrize("state", ["BACKINGUP", "STARTING_BACKUP", "RECOVERING", "STOPPING_BACKUP", ""])
def test_a_promotion_is_nobodys_to_begin_again(world, config, state):
    world.status = Status(state)
    role_state.of(config).change(promotion=PROMOTION)
    watch.complete_promotion(config)
    assert (role_state.of(config).load().promotion, journal.last(config)) == (PROMOTION, ())


def test_a_promotion_that_has_come_to_its_end_is_noted(world, config):
    role_state.of(config).change(promotion=PROMOTION, upstream=UPSTREAM)
    watch.complete_promotion(config)
    state = role_state.of(config).load()
    assert (state.promotion, state.upstream) == (None, None)
    assert state.last == Change("takeover", AT, "old", "", PROMOTION.tid)
    (entry,) = journal.last(config)
    assert (entry.action, entry.by, entry.outcome, entry.details["tid"]) == (
        "takeover",
        "neo-control",
        "done",
        PROMOTION.tid,
    )


@pytest.mark.parametrize(
    "state",
    [
        RoleState(),
        RoleState(fence_pending=PendingFence("old", URL, AT), fenced=Fence("x", "y", AT)),
        RoleState(fence_pending=PendingFence("old", URL, AT), promotion=PROMOTION),
        RoleState(fence_pending=PendingFence("old", URL, AT), rejoin=Rejoin("1", NEW, True, "", AT)),
    ],
)
def test_only_a_primary_fences_the_one_before_it(world, config, state, monkeypatch):
    monkeypatch.setattr(watch, "Peer", lambda url: pytest.fail("it asked"))
    role_state.of(config).change(**vars(state))
    watch.fence_old_primary(config)
    assert role_state.of(config).load() == state


class Asked(list):
    """What the old primary was asked for; it answers that its nodes `undone` could not be reached."""

    undone = ""


@pytest.fixture
def asked(monkeypatch):
    made = Asked()

    class Peer:
        def __init__(self, url):
            assert url == URL

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ready(self, timeout):
            pass

        def call(self, name, parameters, timeout):
            made.append((name, parameters))
            return {"tid": "", "role": "primary", "undone": made.undone}

    monkeypatch.setattr(watch, "Peer", Peer)
    return made


def test_the_old_primary_is_asked_until_all_of_its_nodes_are_fenced(world, config, asked):
    last = Change("takeover", AT, "old", "", PROMOTION.tid, True)
    role_state.of(config).change(fence_pending=PendingFence("old", URL, AT), last=last)
    asked.undone = "neo-node-1 neo-node-2"
    with pytest.raises(ServerError) as error:
        watch.fence_old_primary(config)
    assert str(error.value) == (
        "the old primary old is fenced, but of its nodes, neo-node-1 and neo-node-2 could not be reached: see that no"
        " master runs there"
    )
    state = role_state.of(config).load()
    assert state.fence_pending and state.fence_pending.undone == ("neo-node-1", "neo-node-2")
    assert state.last == dataclasses.replace(last, unfenced=False)
    asked.undone = ""
    watch.fence_old_primary(config)
    assert role_state.of(config).load().fence_pending is None
    (entry,) = journal.last(config)
    assert (entry.action, len(asked)) == ("fence-old-primary", 2)


@pytest.mark.parametrize("unfenced", [True, False])
def test_the_old_primary_is_told_where_it_was_cut(world, config, asked, unfenced):
    last = Change("takeover", AT, "old", "", PROMOTION.tid, unfenced)
    role_state.of(config).change(fence_pending=PendingFence("old", URL, AT), last=last)
    watch.fence_old_primary(config)
    ((name, parameters),) = asked
    assert (name, parameters["cluster"], parameters["tid"]) == ("fence", "old", PROMOTION.tid)
    assert (parameters["new-cluster"], parameters["new-masters"]) == ("copy", "a:1")
    state = role_state.of(config).load()
    assert (state.fence_pending, state.last and state.last.unfenced) == (None, False)
    if not unfenced:  # which the takeover has said
        assert journal.last(config) == ()
        return
    (entry,) = journal.last(config)
    assert entry.sentence == f"the old primary old is fenced now, and knows that it was cut at {PROMOTION.tid}"


# ---- sentences of a promotion


def test_what_a_promotion_waits_for():
    waiting = status(cluster_state="RECOVERING", backup_tid=None)
    assert promote.progress(waiting, PROMOTION) == (
        "wait until the cluster, cut at 0x0400000000000000, is RUNNING: it is RECOVERING"
    )
    down = status(cluster_state="RECOVERING", nodes=(partition.storage("DOWN"),))
    assert promote.progress(down, PROMOTION).endswith("it is RECOVERING, and waits for S1 at a:3 (DOWN)")
    assert promote.stuck(down, PROMOTION) == (
        "the takeover has cut the database at 0x0400000000000000, and the cluster is RECOVERING, as it waits for the"
        " storages S1 at a:3 (DOWN), expected RUNNING: start them on their nodes, or run it again with --force where"
        " replicas have the same data; it is completed by itself then, or by bin/neo-takeover"
    )
    assert promote.stuck(Status(reason="none"), PROMOTION).startswith(
        "the takeover has cut the database at 0x0400000000000000, and no primary master answers (none), expected"
        " RUNNING:"
    )


@pytest.mark.parametrize(
    ("upstream_tid", "lost"),
    [
        ("", ""),
        (PROMOTION.tid, ""),
        ("0x0400000100000000", "; the last 60.0 s of its transactions are not here"),
    ],
)
def test_what_is_said_at_the_end(config, upstream_tid, lost):
    promotion = Promotion("takeover", "old", PROMOTION.tid, AT, upstream_tid)
    assert promote.sentence(config, promotion) == (
        f"this cluster is the primary now, from {PROMOTION.tid} on, in place of old{lost}"
    )
    detached = Promotion("detach", "old", PROMOTION.tid, AT, upstream_tid)
    assert promote.sentence(config, detached) == (
        f"this cluster follows old no longer, and takes writes, since {PROMOTION.tid}{lost}; nothing was done to old"
    )


def test_a_question_holds_all_that_peers_ask_for(config):
    from slapos.recipe.erp5.neo import peers

    asked = old_primary.question(config, "old", "why", "")
    assert frozenset(asked) == peers.OF_CLUSTER.questions["fence"].parameters
