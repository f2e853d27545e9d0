# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose backup a cluster is, whose token is known, what was seen last, and what nodes answer."""

import dataclasses
import socket

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control.peer_client import PeerRefused, PeerUnreachable
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.neo import look, nodes
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.look import Seen
from slapos.recipe.erp5.neo.role_state import RoleState
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT, UPSTREAM, URL

NEW = Upstream("new", "127.0.0.1:30100")
OTHER_URL = URL.replace("28000", "28001")
BACKUP = {"upstream": UPSTREAM, "requested_upstream": UPSTREAM, "upstream_control_url": URL}


@pytest.mark.parametrize(
    ("config", "role", "given", "expected"),
    [
        ({}, RoleState(), "", ""),
        ({}, RoleState(), OTHER_URL, OTHER_URL),
        (BACKUP, RoleState(), "", URL),
        (BACKUP, RoleState(), OTHER_URL, OTHER_URL),
        (BACKUP, RoleState(upstream=NEW), "", ""),  # the parameter is about another upstream
        (BACKUP, RoleState(upstream=NEW, upstream_control_url=OTHER_URL), "", OTHER_URL),
        (BACKUP, RoleState(upstream=UPSTREAM), "", URL),
    ],
)
def test_whose_token_is_known(config, role, given, expected):
    assert look.control_url(partition.cluster(**config), role, given) == expected


def test_an_action_counts_before_how_it_was_created():
    config = partition.cluster(**BACKUP)
    assert look.follows(config, RoleState()) == UPSTREAM
    assert look.follows(config, RoleState(upstream=NEW)) == NEW


def test_what_was_seen_counts_for_that_upstream_alone(tmp_path):
    config = partition.cluster(partition=str(tmp_path))
    assert look.seen(config, UPSTREAM) == Seen()
    (tmp_path / "var/run").mkdir(parents=True)
    shapes.save(look.seen_path(config), Seen("old", "0x07", AT))
    assert look.seen(config, UPSTREAM) == Seen("old", "0x07", AT)
    assert look.seen(config, NEW) == look.seen(config, None) == Seen()


def test_whether_anybody_accepts_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert look.connect([address]) == ""
    assert look.connect([address]) == f"{address}: Connection refused"
    assert look.connect([]) == "it has no masters"


# ---- nodes


class Peer:
    """A node's endpoint, which does or raises what `answers` has for its URL."""

    answers: dict[str, object] = {}

    def __init__(self, url, parameter):
        self.url = url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ready(self, timeout):
        pass

    def call(self, name, parameters, timeout):
        answer = self.answers[self.url]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(nodes, "Peer", Peer)
    first = dataclasses.replace(partition.cluster().nodes[0], control_url="u0")
    second = dataclasses.replace(first, name="neo-node-1", control_url="u1")
    return partition.cluster(nodes=(first, second))


def test_all_nodes_answer(config, monkeypatch):
    monkeypatch.setattr(Peer, "answers", {"u0": {"tids": ["0x05", "0x07"]}, "u1": {"tids": ["0x06", "0x07"]}})
    assert list(nodes.require(config, "tids")) == ["neo-node-0", "neo-node-1"]
    assert nodes.stored_tids(config, 4, 2) == [5, 6]
    assert nodes.stored_tids(config, 4, 9) == [5, 6, 7]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PeerUnreachable("it does not answer"), "it does not answer"),
        (PeerRefused("it says: no"), "it says: no"),
        (PeerRefused("it refuses", proved=False), "it refuses; process the instance again, for its token"),
    ],
)
def test_one_that_does_not(config, monkeypatch, error, said):
    monkeypatch.setattr(Peer, "answers", {"u0": {}, "u1": error})
    answers = nodes.ask(config, "fence")
    assert (list(answers.results), answers.failed) == (["neo-node-0"], f"neo-node-1: {said}")
    with pytest.raises(ServerError) as raised:
        nodes.require(config, "fence")
    assert (
        str(raised.value) == f"not all nodes could be asked to fence (neo-node-1: {said}), expected all: try it again"
    )


def test_nodes_that_are_not_there_yet(config):
    with pytest.raises(ConfigurationError, match="this cluster has no nodes yet"):
        nodes.ask(dataclasses.replace(config, nodes=()), "status")
    unpublished = dataclasses.replace(config.nodes[0], control_url="")
    answers = nodes.ask(dataclasses.replace(config, nodes=(unpublished,)), "status")
    assert answers.failed == (
        "neo-node-0: it has not published its control URL yet, expected one: process the instance again"
    )
