# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster and a backup of it, by parameters alone: the one copies the other, is taken over, and stays so."""

import functools
import re
from collections.abc import Iterator

import pytest

from node import promises
from tests.cluster.neo import Cluster, deploy, destroyed_at_the_end
from tests.cluster.node import Node, eventually
from tests.cluster.test_promises import assert_runs_do_nothing


@pytest.fixture(scope="module")
def pair(node: Node) -> Iterator[tuple[Cluster, Cluster]]:
    """A cluster with an object in it and a backup of it, of two storages each; only the last scenario changes that."""
    with destroyed_at_the_end(node, "neo-copy", "neo-main"):
        main = deploy(node, "neo-main", storage_count=2)
        main.wait_until_green()
        main.write(first="written before there was a backup")
        published = main.published
        copy = deploy(
            node,
            "neo-copy",
            storage_count=2,
            upstream_cluster=published["neo-cluster"],
            upstream_masters=published["neo-masters"],
        )
        copy.wait_until_green()
        yield main, copy


@pytest.fixture
def main(pair: tuple[Cluster, Cluster]) -> Cluster:
    return pair[0]


@pytest.fixture
def copy(pair: tuple[Cluster, Cluster]) -> Cluster:
    return pair[1]


def test_a_backup_follows_by_itself_and_the_promises_say_so(main: Cluster, copy: Cluster):
    (tid,) = main.write(second="written while there is one")
    copy.wait_until_copied(tid)
    failed, said = copy.promise()
    assert not failed
    assert re.fullmatch(
        r"the cluster neo-copy is BACKINGUP, with 2 storages, its last transaction at \S+; it is a backup of neo-main,"
        r" 0 s behind",
        said,
    )
    failed, said = main.promise()
    assert re.fullmatch(r"the cluster neo-main is RUNNING, with 2 storages, its last transaction at \S+", said)


def test_programs_for_people_have_the_addresses_filled_in(copy: Cluster):
    asked = copy.program("neoctl", "print", "cluster")
    assert (asked.returncode, asked.stdout) == (0, "BACKINGUP\n")
    (node,) = copy.nodes()
    flushed = copy.program("neoctl", "flush_log")
    assert flushed.returncode == 0, flushed.stdout
    eventually(lambda: "FlushLog" in copy.program("neolog", str(node.log("master"))).stdout, "the log can be read")


def test_parameters_that_come_later_change_nothing_and_the_promise_says_so(node: Node, main: Cluster):
    """Over ten runs with that promise failing, nothing is processed and nobody bangs."""
    before, parameters = main.pids(), dict(main.parameters)
    main.request({"storage-count": 1, "upstream-cluster": "other", "upstream-masters": "127.0.0.1:1"})
    main.process()
    expected = (
        True,
        "storage-count of neo-node-0 is 1, but it has 2 storages; nothing is deleted: give 2 again\n"
        "upstream-cluster is other, but the database was not created as a backup, and no parameter makes it one: leave"
        " upstream-cluster and upstream-masters out, or run bin/neo-rejoin, which does",
    )
    assert main.promise() == expected
    # What the runs themselves have evaluated last.
    said = functools.partial(promises.results, main.path)
    assert_runs_do_nothing(node, main, lambda: said()["neo-cluster"] == expected and main.pids() == before)
    assert main.promise() == expected
    main.request(parameters)
    main.process()
    main.wait_until_green()
    assert main.pids() == before
    assert main.read()["first"] == "written before there was a backup"


def test_another_layout_is_refused_in_one_sentence(node: Node, main: Cluster):
    before, parameters, config = main.pids(), dict(main.parameters), main.config
    main.request({**parameters, "partitions": 13})
    refused = node.slapos("instance", "--only-cp", ",".join(main.all()))
    assert refused.returncode != 0
    assert (
        "partitions: it is 13, but the database was created with 12, which no parameter changes; give 12 again, or"
        " request another instance." in refused.stdout
    )
    assert (main.pids(), main.config) == (before, config)
    main.request(parameters)
    main.process()
    assert main.pids() == before
    main.wait_until_green()


def test_killed_processes_come_back_and_the_promise_tells(main: Cluster, copy: Cluster):
    (path,) = copy.partitions()
    copy.kill(*(f"{path.name}/{name}" for name in ("master", "storage-0", "storage-1", "admin")))
    eventually(lambda: not copy.promise()[0], "the backup follows again")
    (tid,) = main.write(third="written after processes were killed")
    copy.wait_until_copied(tid)
    failed, said = copy.promises()[f"{path.name}/neo-node"]
    assert failed
    for name in ("master", "storage-0", "storage-1", "admin"):
        assert f"the service neo-{name} was killed by SIGKILL at " in said
    copy.forget_deaths()
    copy.wait_until_green()


def test_an_upstream_that_is_gone_is_told_and_a_takeover_stays(node: Node, main: Cluster, copy: Cluster):
    (tid,) = main.write(last="written before the takeover")
    copy.wait_until_copied(tid)
    (path,) = main.partitions()
    assert node.slapos("supervisorctl", "stop", f"{path.name}:*").returncode == 0
    copy.wait("STARTING_BACKUP")
    failed, said = copy.promise()
    masters = main.published["neo-masters"]
    assert failed
    assert re.fullmatch(
        rf"the cluster is STARTING_BACKUP, as its upstream neo-main at {masters} does not answer, and it has all up to"
        r" \S+, expected BACKINGUP: start the upstream, look at the network between them, or take over",
        said,
    )
    copy.take_over()
    assert set(copy.read()) == {"first", "second", "third", "last"}
    copy.write(fourth="written after the takeover")
    copy.wait_until_green()
    assert copy.promise()[1].endswith("; it was a backup of neo-main, and was taken over")

    (path,) = copy.partitions()
    assert node.slapos("supervisorctl", "restart", f"{path.name}:*").returncode == 0
    copy.process("--force")
    copy.wait("RUNNING")
    copy.wait_until_green()
    assert copy.read()["fourth"] == "written after the takeover"

    # Whatever the parameters say.
    upstream = copy.parameters["upstream-masters"]
    copy.request({"storage-count": 2, "upstream-cluster": "another", "upstream-masters": upstream})
    copy.process()
    assert copy.promise() == (
        True,
        "upstream-cluster is another, but the database was taken over from neo-main, and no parameter changes that:"
        " leave upstream-cluster and upstream-masters out, or run bin/neo-rejoin, which makes it a backup of another",
    )
    assert copy.status().cluster_state == "RUNNING"
