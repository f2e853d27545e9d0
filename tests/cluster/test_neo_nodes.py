# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster of several nodes: they start once all are known, survive each other, become more, and never fewer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.neo import Cluster, destroyed_at_the_end, process_until_complete
from tests.cluster.node import Node, eventually

TWO = {"node-list": [{"storage-count": 1}, {"storage-count": 1}], "masters": 2, "replicas": 1, "use-ipv6": True}
PROCESSES = {"neo-master", "neo-admin", "neo-storage-0"}
THREE = {**TWO, "node-list": [*TWO["node-list"], {"storage-count": 1}]}  # type: ignore[misc]


@pytest.fixture(scope="module")
def cluster(node: Node) -> Iterator[Cluster]:
    """Of two nodes with a master and a storage each, which have the same objects."""
    with destroyed_at_the_end(node, "neo-nodes"):
        cluster = Cluster(node, "neo-nodes")
        cluster.request(TWO)
        run_until_requested(node, cluster)
        yield cluster


def run_until_requested(node: Node, cluster: Cluster) -> None:
    """The first run requests the nodes, which do not know each other yet: the promise says so."""
    finished = node.slapos("instance", "--only-cp", cluster.path.name)
    assert finished.returncode != 0
    assert "neo-node-0, neo-node-1: no addresses published yet, expected them after some processing." in finished.stdout
    assert cluster.promise() == (
        True,
        "neo-node-0 and neo-node-1 have not published any addresses yet, expected all nodes to do so:"
        " process the instances (slapos node instance); no node starts anything before",
    )


def services(partition: Path) -> set[str]:
    return {path.name for path in (partition / "etc/service").iterdir()}


def test_nodes_start_nothing_before_all_masters_are_known(node: Node, cluster: Cluster):
    first, _ = cluster.partitions()
    node.slapos("instance", "--only-cp", first.name)
    assert not PROCESSES & services(first)
    results = cluster.promises()
    assert results[f"{first.name}/neo-node"] == (
        True,
        "the masters of the cluster are not known yet, expected their addresses from the instance of the cluster,"
        " before which nothing is started here: process the instances (slapos node instance)",
    )
    process_until_complete(cluster)
    assert services(first) >= PROCESSES
    cluster.wait_until_green()
    assert len(cluster.published["neo-masters"].split()) == 2
    assert all(address.startswith("[::1]:") for address in cluster.published["neo-masters"].split())
    cluster.write(kept="by both")


def test_the_cluster_goes_on_without_any_one_of_its_nodes(node: Node, cluster: Cluster):
    """Where the primary master dies together with a storage, NEO waits for that storage, or to be told not to."""
    for one in cluster.nodes():
        cluster.wait_until_green()
        before, master = cluster.status(), f"[{one.network.ip}]:{one.network.master_port}"
        (primary,) = [known.address for known in before.nodes if known.uuid == before.primary]
        group = f"{one.path().name}:*"
        assert node.slapos("supervisorctl", "stop", group).returncode == 0
        eventually(lambda: "do not run, expected all nodes" in cluster.promise()[1], "the promise tells of the node")
        if primary == master:
            cluster.wait("RECOVERING")
            assert "or, when other storages have all that it has, bin/neoctl start" in cluster.promise()[1]
            assert cluster.program("neoctl", "start").returncode == 0
        cluster.wait("RUNNING")
        assert cluster.promise()[0]
        assert cluster.read() == {"kept": "by both"}
        assert node.slapos("supervisorctl", "start", group).returncode == 0


def test_a_node_that_is_added_starts_while_the_others_go_on(cluster: Cluster):
    cluster.wait_until_green()
    before = cluster.pids()
    cluster.request(THREE)
    process_until_complete(cluster)
    new = f"{cluster.partitions()[2].name}/storage-0"
    eventually(lambda: cluster.pids().get(new), "the new storage runs")
    assert before.items() <= cluster.pids().items()
    eventually(lambda: "bin/neoctl add " in cluster.promise()[1], "the promise says how to take it into use")
    assert cluster.program("neoctl", "add", "all").returncode == 0
    assert cluster.program("neoctl", "tweak").returncode == 0
    cluster.wait_until_green()
    assert cluster.read() == {"kept": "by both"}


def test_a_node_that_is_not_listed_any_more_stays_and_the_promise_says_so(cluster: Cluster):
    cluster.wait_until_green()
    before = cluster.pids()
    cluster.request(TWO)
    cluster.process()
    assert cluster.promise() == (
        True,
        "neo-node-2 is not in node-list any more, but the cluster has it, with one storage; nothing is deleted: put it"
        " back into node-list",
    )
    assert cluster.pids() == before
    cluster.request(THREE)
    cluster.process()
    cluster.wait_until_green()
    assert cluster.pids() == before
