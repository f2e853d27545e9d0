# SPDX-License-Identifier: GPL-2.0-or-later
"""Asker on real clusters: what it tells of them, that it outlives their nodes, and what it says when nobody answers."""

import signal
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import Refused, ServerError, Unreachable
from slapos.recipe.erp5.neo import tid
from slapos.recipe.erp5.neo.ask import Asker, Node
from tests.service.neo_fixtures import Cluster, Clusters, follow
from tests.service.servers import release, wait_for


@pytest.fixture
def running(clusters: Clusters) -> Cluster:
    cluster = clusters("main", masters=2, storages=2, admins=2, replicas=1, partitions=6)
    cluster.start()
    cluster.wait("RUNNING")
    return cluster


def test_status_of_a_running_cluster(running: Cluster):
    (written,) = running.write(one=1)
    status = running.status()
    assert (status.cluster_state, status.partitions, status.replicas, status.reason) == ("RUNNING", 6, 1, "")
    assert (status.last_tid, status.backup_tid, status.first_copy_goal) == (written, None, None)
    assert status.cells_out_of_date == 0 and status.last_ptid
    assert status.primary in {node.uuid for node in status.nodes if node.type == "MASTER"}
    found = sorted((node.type, node.address, node.state) for node in status.nodes)
    kinds = {"ADMIN": "admin", "MASTER": "master", "STORAGE": "storage"}
    assert found == sorted((kind, where, "RUNNING") for kind, name in kinds.items() for where in running.of(name))


def test_the_time_of_a_tid_is_when_it_was_written(running: Cluster):
    before = tid.from_time(Path(running.folder).stat().st_mtime - 60)
    (written,) = running.write(one=1)
    assert before < written
    assert abs(tid.to_time(written) - tid.to_time(before)) < 600


def test_a_storage_that_is_down_is_told_with_its_cells(running: Cluster):
    running.kill("storage-1")
    with running.asker() as asker:
        wait_for(lambda: asker.status().cells_out_of_date == 6, "six cells out of date")
        down = [node.address for node in asker.status().nodes if node.state == "DOWN"]
    assert down == [running.addresses["storage-1"]]


def test_it_survives_restarts_of_admins_and_masters(running: Cluster):
    with running.asker() as asker:
        process = asker._process
        for nodes in (["admin-0"], ["admin-0", "admin-1"], ["master-0"], ["master-1"], ["master-0", "master-1"]):
            running.kill(*nodes)
            wait_for(lambda: not _all_up(asker), "a node to be missed")
            running.start()
            wait_for(lambda: _all_up(asker), f"all to be well after a restart of {nodes}")
        assert process is asker._process or process is None


def _all_up(asker: Asker) -> bool:
    status = asker.status()
    nodes = [node.state for node in status.nodes]
    return status.cluster_state == "RUNNING" and nodes == ["RUNNING"] * 6


def test_the_second_admin_is_asked_when_the_first_is_down(running: Cluster):
    running.kill("admin-0")
    status = running.status()
    assert status.cluster_state == "RUNNING"
    admins = [Node("ADMIN", "", running.addresses[f"admin-{n}"], state) for n, state in enumerate(("DOWN", "RUNNING"))]
    assert [node for node in status.nodes if node.type == "ADMIN"] == admins


def test_without_a_primary_master_the_reason_is_told(running: Cluster):
    running.kill("master-0", "master-1", "admin-1")
    with running.asker() as asker:
        wait_for(lambda: not asker.status().cluster_state, "no state to be known")
        first, second = running.of("admin")
        reason = f"admin {first}: Not connected to a primary master.; admin {second}: not connected"
        wait_for(lambda: asker.status().reason == reason, reason)
        states = [node.state for node in asker.status().nodes]
        assert states == ["RUNNING", "DOWN"]
        with pytest.raises(Unreachable) as error:
            asker.set_state("STOPPING_BACKUP")
        assert str(error.value) == f"the NEO cluster main was asked for set-state STOPPING_BACKUP: {reason}"


def test_a_hanging_admin_costs_the_timeout_and_no_more(running: Cluster):
    with running.asker(timeout=1) as asker:
        assert asker.status().cluster_state == "RUNNING"
        for node in ("admin-0", "admin-1"):
            running.processes[node].send_signal(signal.SIGSTOP)
        assert asker.status().reason == "the NEO cluster main was asked for status: the cluster did not answer in time"
        for node in ("admin-0", "admin-1"):
            running.processes[node].send_signal(signal.SIGCONT)
        wait_for(lambda: asker.status().cluster_state == "RUNNING", "an answer of admins that go on")


def test_neos_own_refusal_is_told(running: Cluster):
    with running.asker() as asker, pytest.raises(Refused) as error:
        asker.set_state("STOPPING_BACKUP")
    sentence = "the NEO cluster main was asked for set-state STOPPING_BACKUP: Can not switch to this state"
    assert str(error.value) == sentence
    assert running.status().cluster_state == "RUNNING"


def test_a_dead_process_of_its_own_is_replaced(running: Cluster):
    with running.asker() as asker:
        asker.status()
        assert asker._process
        asker._process.kill()
        asker._process.wait()
        assert asker.status().cluster_state == "RUNNING"


def test_an_interpreter_that_is_not_there(partition: Path):
    asker = Asker(partition / "python", partition / "script", "main", ["127.0.0.1:1"])
    with pytest.raises(ServerError, match="cannot be started: .*No such file"):
        asker.status()


def test_a_program_that_fails_at_once(partition: Path):
    python = release() / "parts/neoppod/bin/python"
    asker = Asker(python, partition / "no-script", "main", ["127.0.0.1:1"])
    with pytest.raises(ServerError, match="the program that asks the NEO cluster main ended"):
        asker.status()


def test_a_new_cluster_that_waits_to_be_started(clusters: Clusters):
    cluster = clusters("main", storages=2)
    cluster.start("master-0", "admin-0", "storage-0")
    cluster.wait("RECOVERING")
    with cluster.asker() as asker:
        status = asker.status()
        assert (status.last_tid, status.backup_tid, status.reason) == (None, None, "")
        wait_for(lambda: "PENDING" in [node.state for node in asker.status().nodes], "a pending storage")
        asker.start()
    cluster.wait("RUNNING")


def test_truncate_forgets_what_came_later(running: Cluster):
    kept, _ = running.write(one=1, two=2)
    with running.asker() as asker:
        asker.truncate(kept)
        wait_for(lambda: asker.status().last_tid == kept, "the last tid")
    running.wait("RUNNING")
    assert running.read() == {"one": 1}


def test_truncating_all_away_is_refused(running: Cluster):
    with running.asker() as asker, pytest.raises(Refused, match="truncate refused: .*expected a tid above zero"):
        asker.truncate(0)
    assert running.status().cluster_state == "RUNNING"


def test_a_cluster_on_ipv6(clusters: Clusters):
    cluster = clusters("main", host="::1")
    cluster.start()
    cluster.wait("RUNNING")
    cluster.write(one=1)
    assert cluster.read() == {"one": 1}
    assert {node.address for node in cluster.status().nodes} == set(cluster.addresses.values())


# tids_from


def test_tids_are_listed_from_one_on(running: Cluster):
    written = running.write(**{f"thing{number}": number for number in range(20)})
    masters = running.of("master")
    with running.asker() as asker:
        assert asker.tids_from(masters, written[0], 100) == written
        assert asker.tids_from(masters, written[7], 5) == written[7:12]
        assert asker.tids_from(masters, written[-1] + 1, 5) == []


def test_exactly_the_foreign_transactions_are_found(clusters: Clusters):
    """After a takeover of a living upstream, each side has transactions that the other lacks."""
    main, copy = follow(clusters)
    common = main.status().last_tid or 0
    with copy.asker() as asker:
        asker.set_state("STOPPING_BACKUP")
        copy.wait("RUNNING")
        theirs = main.write(a=1, b=2, c=3)
        ours = copy.write(d=4, e=5)
        found = set(asker.tids_from(copy.of("master"), common, 1000))
        upstreams = set(asker.tids_from(main.of("master"), common, 1000, cluster="main"))
    assert sorted(found - upstreams) == ours
    assert sorted(upstreams - found) == theirs
    assert common in found & upstreams


def test_a_cluster_that_serves_nobody_lists_nothing_in_time(running: Cluster):
    running.kill("storage-0", "storage-1")
    running.wait("RECOVERING")
    with (
        running.asker(timeout=1) as asker,
        pytest.raises(Unreachable, match="did not list its transactions within 4 s"),
    ):
        asker.tids_from(running.of("master"), 1, 10)
