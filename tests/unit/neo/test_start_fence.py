# SPDX-License-Identifier: GPL-2.0-or-later
"""When a master may start: not while its cluster is fenced, also where its own node was never told."""

import dataclasses
import time

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import peer_proof, token
from slapos.recipe.erp5.neo import node_role, peer_actions, peers, role_state, start_fence
from slapos.recipe.erp5.neo.node_role import NodeFence
from slapos.recipe.erp5.neo.role_state import Fence
from slapos.recipe.erp5.neo.start_fence import Answer
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT

FENCED, NO, SILENT = Answer(f"since {AT}, by its backup new (takeover)"), Answer(), Answer(error="timed out")


class World:
    """The time, which passes while somebody sleeps, and what is answered at each question, the last answer for ever."""

    def __init__(self) -> None:
        self.now, self.said, self.answers, self.on_sleep = 0.0, [], [NO], []

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 1000, "it waits for ever"
        if self.on_sleep:
            self.on_sleep.pop(0)()

    def ask(self, config):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    monkeypatch.setattr(process, "log", made.said.append)
    monkeypatch.setattr(start_fence, "ask", made.ask)
    return made


@pytest.fixture
def node(tmp_path):
    """(configuration, its path)"""
    (tmp_path / "srv/kept").mkdir(parents=True)
    (tmp_path / "srv/kept/control-token").write_text("a" * 32)
    config = partition.node(tmp_path, cluster_control="127.0.0.1:28000")
    shapes.save(tmp_path / "neo-node.json", config)
    return config, tmp_path / "neo-node.json"


def test_a_cluster_that_is_not_fenced_starts_at_once(world, node):
    config, path = node
    assert start_fence.wait(path) == config
    assert (world.now, world.said) == (0.0, [])


def test_a_fenced_cluster_is_waited_for_however_long_and_also_while_it_is_silent(world, node):
    config, path = node
    world.answers = [SILENT, FENCED, *[SILENT] * 50, FENCED, NO]
    assert start_fence.wait(path) == config
    assert world.now == 53 * start_fence.ASK
    assert world.said == [
        f"the cluster copy is fenced since {AT}, by its backup new (takeover), and its master starts when that ends"
    ]


def test_without_an_answer_it_starts_after_a_while(world, node):
    config, path = node
    world.answers = [SILENT]
    assert start_fence.wait(path) == config
    assert world.now == start_fence.UNANSWERED
    assert world.said == [
        "warning: the partition of the cluster copy does not say whether that is fenced (timed out): the master starts"
        " all the same after 20 s, as a cluster has to run without that partition"
    ]


def test_the_end_of_the_nodes_own_mark_is_the_clusters_word(world, node):
    config, path = node
    world.answers = [FENCED]
    mark, lift = NodeFence("its backup new", "takeover", AT), lambda: node_role.of(config).change(fenced=None)
    world.on_sleep = [lambda: node_role.of(config).change(fenced=mark), lambda: None, lift]
    assert start_fence.wait(path) == config
    assert world.said[1:] == [
        f"the master of this node is fenced since {AT}, by its backup new (takeover), and starts when that is resumed"
    ]


def test_who_knows_no_cluster_asks_nobody(node):
    config, _ = node
    assert start_fence.ask(dataclasses.replace(config, cluster_control="")) == NO
    nobody = start_fence.ask(dataclasses.replace(config, cluster_control="127.0.0.1:1"))
    assert "127.0.0.1:1 does not answer" in nobody.error and "a" * 32 not in nobody.error


def test_a_node_proves_itself_with_its_own_token_and_is_told(node, tmp_path):
    config, _ = node
    ours = partition.Node("neo-node-0", 1, True, True, "a:1", "a:2", ("a:3",), "https://[::1]:1/#" + token.load(config))
    unpublished = dataclasses.replace(ours, name="neo-node-1", control_url="")
    cluster = partition.cluster(partition=str(tmp_path), nodes=(unpublished, ours))
    name = peer_proof.public_name("a" * 32)
    assert peers.OF_CLUSTER.secret_of(cluster, name) == "a" * 32
    assert peers.OF_CLUSTER.secret_of(cluster, peer_proof.public_name("b" * 32)) == ""
    assert peer_actions.do(cluster, "is-fenced", {"id": name}) == {"fenced": ""}
    role_state.of(cluster).change(fenced=Fence("its backup new", "takeover", AT))
    assert peer_actions.do(cluster, "is-fenced", {"id": name}) == {"fenced": FENCED.fenced}
