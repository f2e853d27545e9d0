# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promises say of a cluster and of a node, to the last word."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5.neo import status as gathering
from slapos.recipe.erp5.neo import tid, verdict
from slapos.recipe.erp5.neo.ask import Node, Status
from slapos.recipe.erp5.neo.config import BackupCluster, Monitor, Upstream
from slapos.recipe.erp5.neo.status import NodeSnapshot, ServiceStatus, Snapshot
from slapos.recipe.erp5.supervisor import RUNNING, WAITING, Ended, Service, Supervised
from tests.unit.neo import partition
from tests.unit.neo.partition import UPSTREAM

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
NODES = (
    Node("MASTER", "M1", "a:1", "RUNNING"),
    Node("STORAGE", "S1", "a:3", "RUNNING"),
    Node("STORAGE", "S2", "a:4", "RUNNING"),
    Node("ADMIN", "", "a:2", "RUNNING"),
)


def at(seconds: float) -> int:
    """The tid of so many seconds before now."""
    return tid.from_time((NOW - timedelta(seconds=seconds)).timestamp())


def up(state: str = "RUNNING", **fields) -> Status:
    return Status(**{"cluster_state": state, "primary": "M1", "last_tid": at(5), "nodes": NODES, **fields})


def following(**fields) -> Status:
    return up("BACKINGUP", **{"backup_tid": at(5), **fields})


def said(status: Status, backups=(), **config) -> tuple[bool, tuple[str, ...]]:
    found = verdict.cluster(Snapshot(partition.cluster(**config), NOW, status, backups))
    return found.good, found.sentences


BACKUP = {"upstream": UPSTREAM, "requested_upstream": UPSTREAM}


def test_a_cluster_that_is_well():
    assert said(up()) == (
        True,
        ("the cluster copy is RUNNING, with 2 storages, its last transaction at 2026-11-28T11:59:55Z",),
    )
    assert said(following(), **BACKUP) == (
        True,
        (
            "the cluster copy is BACKINGUP, with 2 storages, its last transaction at 2026-11-28T11:59:55Z; it is a"
            " backup"
            " of main, 0 s behind",
        ),
    )


@pytest.mark.parametrize("state", ["RUNNING", "BACKINGUP", "STARTING_BACKUP", "STOPPING_BACKUP"])
def test_of_one_that_is_no_backup_no_state_is_asserted_in_which_it_serves(state):
    assert said(up(state))[0]


@pytest.mark.parametrize("state", ["RECOVERING", "VERIFYING", "STOPPING"])
def test_one_that_serves_nobody(state):
    text = f"the cluster is {state} and serves nobody, expected it to have started: "
    assert said(up(state)) == (False, (text + "start what is missing of it",))
    assert said(up(state), **BACKUP) == (False, (text + "start what is missing of it",))
    remedy = "start what is missing of it; a new cluster is started by bin/neoctl start"
    assert said(up(state), autostart=False) == (False, (text + remedy,))
    remedy = "start what is missing of it; or, when other storages have all that it has, bin/neoctl start"
    assert said(up(state), replicas=1) == (False, (text + remedy,))


def test_one_whose_nodes_have_no_partition():
    node = partition.cluster().nodes[0]
    nodes = tuple(dataclasses.replace(node, name=f"neo-node-{n}", published=False, has_partition=n < 1) for n in (0, 1))
    assert said(Status(), nodes=nodes, masters=())[1] == (
        "neo-node-1 has no partition yet, expected the Master to give one: see that a computer which fits (sla) has a"
        " free partition; no node starts anything before",
        "neo-node-0 has not published any addresses yet, expected all nodes to do so: process the instances (slapos"
        " node instance); no node starts anything before",
    )


def test_one_whose_nodes_are_not_all_there_yet():
    node = partition.cluster().nodes[0]
    nodes = tuple(dataclasses.replace(node, name=f"neo-node-{n}", published=n == 1) for n in range(3))
    text = (
        "neo-node-0 and neo-node-2 have not published any addresses yet, expected all nodes to do so:"
        " process the instances (slapos node instance)"
    )
    assert said(Status(), nodes=nodes, masters=(), admins=()) == (False, (text + "; no node starts anything before",))
    assert said(up(), nodes=nodes[:2])[1] == (text.replace(" and neo-node-2 have", " has"),)


def test_one_that_nobody_can_ask():
    assert said(Status(reason="admin a:2: connection refused")) == (
        False,
        (
            "the cluster copy cannot be asked how it is (admin a:2: connection refused), expected an admin that answers"
            " and has found the master: the promise neo-node of each node tells which of its processes do not run",
        ),
    )


def test_differences_of_nodes_are_said_as_they_are():
    assert said(up(), differences=("one", "two")) == (False, ("one", "two"))


# ---- backups


def test_a_backup_that_is_behind():
    assert said(following(backup_tid=at(61), last_tid=at(0)), **BACKUP) == (
        False,
        (
            "the cluster is 61 s behind main, expected 60 s at most: see whether its storages run and their disks"
            " keep up;"
            " monitor.maxlag is the limit",
        ),
    )
    assert said(following(backup_tid=at(59), last_tid=at(0)), **BACKUP)[0]
    assert said(following(backup_tid=at(61), last_tid=at(0)), **BACKUP, monitor=Monitor(62, ()))[0]
    assert said(following(backup_tid=at(9999), last_tid=at(9999)), **BACKUP)[0]


def test_a_clock_that_is_behind_is_no_lag():
    assert verdict.lag(following(backup_tid=at(-30), last_tid=at(-31)), NOW) == timedelta(0)


def test_a_first_copy_is_told_and_is_no_lag():
    good, (text,) = said(following(backup_tid=at(9999), first_copy_goal=at(0)), **BACKUP)
    assert good
    assert text.endswith(
        "; it is a backup of main, whose first copy is being made: it cannot be taken over before that is complete"
    )


@pytest.mark.parametrize(
    "has, text, more",
    [(at(65), "has all up to 2026-11-28T11:58:55Z", ", or take over"), (0, "has nothing of it yet", "")],
    ids=["some", "nothing"],
)
def test_an_upstream_that_does_not_answer(has, text, more):
    assert said(following(cluster_state="STARTING_BACKUP", backup_tid=has), **BACKUP) == (
        False,
        (
            f"the cluster is STARTING_BACKUP, as its upstream main at 127.0.0.9:30000 does not answer, and it {text},"
            f" expected BACKINGUP: start the upstream, look at the network between them{more}",
        ),
    )


def test_a_backup_that_was_never_one():
    assert said(up(last_tid=0), **BACKUP) == (
        False,
        (
            "the cluster is RUNNING and empty, expected BACKINGUP, as it was created as a backup of main: keep"
            " everybody"
            " from writing to it, and request another instance in its place",
        ),
    )


def test_one_that_was_taken_over_is_well_whatever_is_left_of_its_parameters():
    text = (
        "the cluster copy is RUNNING, with 2 storages, its last transaction at 2026-11-28T11:59:55Z; it was a backup of"
        " main, and was taken over"
    )
    assert said(up(), **BACKUP) == (True, (text,))
    assert said(up(), upstream=UPSTREAM) == (True, (text,))
    assert said(up(), upstream=UPSTREAM, requested_upstream=Upstream("main", "elsewhere:1")) == (True, (text,))


OTHER = Upstream("other", "b:1")


@pytest.mark.parametrize(
    "status, was, now, text",
    [
        (
            up(),
            None,
            OTHER,
            "upstream-cluster is other, but the database was not created as a backup, and no parameter makes it one:"
            " leave upstream-cluster and upstream-masters out, or run bin/neo-rejoin, which does",
        ),
        (
            following(),
            UPSTREAM,
            None,
            "upstream-cluster is empty, but the database is a backup of main and stays one: give upstream-cluster and"
            " upstream-masters again, or take over",
        ),
        (
            following(),
            UPSTREAM,
            OTHER,
            "upstream-cluster is other, but the database is a backup of main, and no parameter changes that: give"
            " main and"
            " 127.0.0.9:30000 again, or run bin/neo-rejoin, which makes it a backup of other",
        ),
        (
            up(),
            UPSTREAM,
            OTHER,
            "upstream-cluster is other, but the database was taken over from main, and no parameter changes that: leave"
            " upstream-cluster and upstream-masters out, or run bin/neo-rejoin, which makes it a backup of other",
        ),
        (
            following(),
            UPSTREAM,
            Upstream("main", "c:1"),
            "upstream-masters is c:1, but the masters look for main at 127.0.0.9:30000, which no parameter changes:"
            " give"
            " main and 127.0.0.9:30000 again, or run bin/neo-rejoin, which has them look there",
        ),
    ],
    ids=["added", "removed", "changed", "changed after a takeover", "moved"],
)
def test_parameters_that_the_database_does_not_follow(status, was, now, text):
    assert said(status, upstream=was, requested_upstream=now) == (False, (text,))


def test_the_order_of_masters_does_not_matter():
    pair = Upstream("main", "a:1 b:1"), Upstream("main", "b:1 a:1")
    assert said(following(), upstream=pair[0], requested_upstream=pair[1])[0]


def test_backups_that_are_watched():
    monitor = Monitor(60, (BackupCluster("far", "c:1"),))
    good, (text,) = said(up(), (("far", following()),), monitor=monitor)
    assert good and text.endswith("; its backup far is BACKINGUP, 0 s behind")
    for status, text in (
        (
            Status(reason="nobody"),
            "the backup far cannot be asked how it is (nobody), expected BACKINGUP: see its own promises",
        ),
        (up(), "the backup far is RUNNING, expected BACKINGUP: see its own promises"),
        (
            following(cluster_state="STARTING_BACKUP", backup_tid=at(90)),
            "the backup far is STARTING_BACKUP, as its upstream copy does not answer, and it has all up to"
            " 2026-11-28T11:58:30Z, expected BACKINGUP: start the upstream, look at the network between them, or"
            " take over",
        ),
        (
            following(backup_tid=at(7200), last_tid=at(0)),
            "the backup far is 2 h behind copy, expected 60 s at most: see whether its storages run and their disks"
            " keep"
            " up; monitor.maxlag is the limit",
        ),
    ):
        assert said(up(), (("far", status),), monitor=monitor) == (False, (text,))


# ---- its nodes


def test_nodes_that_are_down_or_unknown():
    nodes = (NODES[0], dataclasses.replace(NODES[1], state="DOWN"), NODES[3])
    assert said(up(nodes=nodes)) == (
        False,
        (
            "the storage at a:3 and the storage at a:4 do not run, expected all nodes of the cluster to: the promises"
            " neo-node tell why",
        ),
    )
    assert said(up(nodes=NODES[1:]))[1][0].startswith("the master at a:1 does not run, expected all nodes")


def test_storages_that_are_no_part_of_the_database():
    nodes = (*NODES[:2], dataclasses.replace(NODES[2], state="PENDING"), NODES[3])
    assert said(up(nodes=nodes)) == (
        False,
        (
            "the storage S2 has no part of the database yet, expected all storages to: bin/neoctl add S2, and then"
            " bin/neoctl tweak",
        ),
    )


def test_cells_that_are_out_of_date():
    assert said(up(cells_out_of_date=3)) == (
        False,
        (
            "3 cells are out of date, expected none: wait until the storages have copied them from others, which"
            " they do"
            " while all run",
        ),
    )


# ---- a node


RUNS = Supervised(1, 2, RUNNING, "2026-11-28T10:00:00Z", "", (), ())
END = Ended("2026-11-28T11:59:00Z", "ended with status 1", 3.0)


def node_said(*services: ServiceStatus, tmp_path, **config) -> tuple[bool, tuple[str, ...]]:
    found = verdict.node(NodeSnapshot(partition.node(tmp_path, **config), NOW, services))
    return found.good, found.sentences


def test_a_node_that_is_well(tmp_path):
    one, other = (ServiceStatus(Service(tmp_path, name), RUNS) for name in ("neo-master", "neo-admin"))
    assert node_said(one, other, tmp_path=tmp_path) == (True, ("neo-master and neo-admin run",))
    long_ago = dataclasses.replace(RUNS, ends=(dataclasses.replace(END, at="2026-11-27T10:00:00Z"),))
    other = dataclasses.replace(other, supervised=long_ago)
    assert node_said(one, other, tmp_path=tmp_path) == (
        True,
        (
            "neo-master and neo-admin run; neo-admin ended with status 1 at 2026-11-27T10:00:00Z, which nobody had"
            " asked"
            " for, after 3 s, and was started again (once since 2026-11-27T10:00:00Z)",
        ),
    )


def test_an_upstream_with_another_number_of_partitions(tmp_path):
    config = partition.node(tmp_path)
    assert gathering.upstream_partitions(config) is None
    config.upstream_partitions.write_text("24\n")
    found = NodeSnapshot(config, NOW, (), upstream_partitions=gathering.upstream_partitions(config))
    assert verdict.node(found).sentences == (
        "partitions is 12, but the upstream has 24, expected the same, without which the master ends at each start, and"
        " which no parameter changes: request another instance",
    )


def test_processes_that_do_not_run(tmp_path):
    waits = dataclasses.replace(RUNS, state=WAITING, next_start="2026-11-28T12:01:00Z", ends=(END, END))
    services = (
        ServiceStatus(Service(tmp_path / "slappart3/var/run", "neo-admin"), None),
        ServiceStatus(Service(tmp_path, "neo-storage-0"), waits, "/p/storage-0.sqlite"),
    )
    assert node_said(*services, tmp_path=tmp_path) == (
        False,
        (
            "no supervisor of the service neo-admin runs, expected it to run: start the services of its partition"
            " (slapos node start 'slappart3:*')",
            "/p/storage-0.sqlite is not there, expected the database that was made once: bring it back; or, to have an"
            " empty one in its place, read what the log of this service says",
            "the service neo-storage-0 ended with status 1 at 2026-11-28T11:59:00Z, which nobody had asked for,"
            " after 3 s,"
            " expected it to run: read its logs and remove the cause; it starts again by itself at 2026-11-28T12:01:00Z"
            " (2 times in the last 15 min)",
        ),
    )


def test_a_server_that_does_not_answer(tmp_path):
    config = partition.node(tmp_path, mysql=partition.mysql(tmp_path))
    service = ServiceStatus(Service(tmp_path, "neo-mariadb"), RUNS)
    assert verdict.node(NodeSnapshot(config, NOW, (service,))).sentences == ("neo-mariadb run",)
    found = verdict.node(NodeSnapshot(config, NOW, (service,), silent="cannot connect to MariaDB: gone (2002)"))
    assert (found.good, found.sentences) == (
        False,
        (
            "cannot connect to MariaDB: gone (2002), expected a server in which this node's storages have their data:"
            " see the log of neo-mariadb, which also tells that it is being made or recovers",
        ),
    )


def test_a_node_that_does_not_know_the_masters(tmp_path):
    service = ServiceStatus(Service(tmp_path, "neo-admin"), None)
    assert node_said(service, tmp_path=tmp_path, masters=()) == (
        False,
        (
            "the masters of the cluster are not known yet, expected their addresses from the instance of the cluster,"
            " before which nothing is started here: process the instances (slapos node instance)",
        ),
    )
