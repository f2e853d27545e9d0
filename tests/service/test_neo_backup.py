# SPDX-License-Identifier: GPL-2.0-or-later
"""A new cluster with an upstream becomes its backup by itself and is never writable before, whatever dies meanwhile."""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess

import pytest

from slapos.recipe.erp5.neo import tid
from tests.service.neo_fixtures import Cluster, Clusters, follow, random_moment
from tests.service.servers import release, wait_for

LAYOUTS = [
    {},
    {"masters": 2, "storages": 2, "partitions": 6},
    {"masters": 3, "storages": 4, "partitions": 5, "replicas": 1},
]


def follows(main: Cluster, copy: Cluster) -> bool:
    """What is written to the upstream arrives, whole."""
    (written,) = main.write(later="arrives")
    copy.wait_for_tid(written)
    return copy.read() == main.read()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_it_becomes_a_backup_by_itself_and_follows_while_hostile_clients_write_nothing(
    clusters: Clusters, layout: dict
):
    main, copy = clusters.backup(**layout)
    with copy.hostile_clients() as attempts:
        copy.start()
        copy.wait("BACKINGUP")
        assert follows(main, copy)
        wait_for(lambda: len(attempts.all()) > 50, "more attempts")
    assert attempts.written() == 0
    assert not any(copy.flag(master).exists() for master in copy.nodes("master"))
    with copy.asker() as asker:
        assert asker.tids_from(copy.of("master"), 1, 100) == asker.tids_from(main.of("master"), 1, 100, cluster="main")


def test_hostile_clients_do_write_to_a_cluster_that_is_running(clusters: Clusters):
    """Or the tests above would prove nothing."""
    cluster = clusters("main")
    with cluster.hostile_clients() as attempts:
        cluster.start()
        wait_for(attempts.written, "a write")


def test_an_upstream_that_is_down_is_waited_for(clusters: Clusters):
    main, copy = clusters.backup()
    main.kill()
    with copy.hostile_clients() as attempts:
        copy.start()
        copy.wait("STARTING_BACKUP")
        assert copy.status().backup_tid == copy.status().first_copy_goal == 0
        main.start()
        copy.wait("BACKINGUP")
        main.wait("RUNNING")
        assert follows(main, copy)
        wait_for(lambda: len(attempts.all()) > 50, "attempts")
    assert attempts.written() == 0


def test_an_upstream_that_is_empty_is_waited_for(clusters: Clusters):
    main = clusters("main")
    main.start()
    main.wait("RUNNING")
    copy = clusters("copy", upstream=main)
    with copy.hostile_clients() as attempts:
        copy.start()
        copy.wait("BACKINGUP")
        wait_for(lambda: len(attempts.all()) > 50, "attempts")
        assert json.loads(copy.flag().read_text()) == {}
        assert follows(main, copy)
    assert attempts.written() == 0


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_and_started_again_it_gets_there_and_nobody_writes(clusters: Clusters, seed: int):
    main, copy = clusters.backup(masters=2, storages=2)
    with copy.hostile_clients() as attempts:
        copy.start()
        for _ in range(3):
            # Of the second and a half that it takes; a state cannot be waited for, as any moment is meant.
            wait_for_moment(random_moment(1.0))
            victims = random.sample(sorted(copy.addresses), random.randint(1, len(copy.addresses)))
            copy.kill(*victims)
            copy.revive()
        copy.wait("BACKINGUP", reviving=True)
        assert follows(main, copy)
        wait_for(lambda: len(attempts.all()) > 20, "attempts")
    assert attempts.written() == 0


def numbers(copy: Cluster) -> list[str]:
    """What the storages have noted in their databases as their own numbers."""
    found = []
    for storage in copy.nodes("storage"):
        database = sqlite3.connect(copy.folder / f"{storage}.sqlite")
        with contextlib.closing(database), contextlib.suppress(sqlite3.OperationalError):  # not made yet
            found += [value for (value,) in database.execute("SELECT value FROM config WHERE name = 'nid'")]
    return found


def test_storages_that_got_the_same_number_of_masters_that_were_killed_get_another_one(clusters: Clusters):
    main, copy = clusters.backup(storages=2)
    for count, storage in enumerate(copy.nodes("storage"), 1):
        copy.start("master-0", storage)
        wait_for(lambda count=count: len(numbers(copy)) == count, "a number")
        copy.kill()
    first, second = numbers(copy)
    assert first == second
    copy.start()
    copy.wait("BACKINGUP")
    assert follows(main, copy)
    first, second = numbers(copy)
    assert first != second


def wait_for_moment(seconds: float) -> None:
    signal.sigtimedwait([], seconds)


def test_a_revived_backup_comes_back_as_one_with_and_without_its_upstream(clusters: Clusters):
    main, copy = follow(clusters)
    copy.kill()
    copy.start()
    copy.wait("BACKINGUP")
    assert follows(main, copy)
    main.kill()
    copy.wait("STARTING_BACKUP")
    copy.kill()
    copy.start()
    copy.wait("STARTING_BACKUP")
    main.start()
    copy.wait("BACKINGUP")
    main.wait("RUNNING")
    assert follows(main, copy)


def test_a_reader_of_the_backup_does_not_kill_its_master_when_the_upstream_goes(clusters: Clusters):
    main, copy = follow(clusters)
    with copy.reader():
        main.kill()
        copy.wait("STARTING_BACKUP")
        main.start()
        copy.wait("BACKINGUP")
        main.wait("RUNNING")
        assert follows(main, copy)
    copy.check()


def test_a_cluster_without_the_flag_is_an_ordinary_one(clusters: Clusters):
    main, copy = clusters.backup()
    copy.flag().unlink()
    copy.start()
    copy.wait("RUNNING")
    copy.write(own=1)
    assert copy.read() == {"own": 1}


def test_a_flag_on_a_database_that_has_a_life_of_its_own_is_removed(clusters: Clusters):
    main, copy = clusters.backup()
    copy.flag().unlink()
    copy.start()
    copy.wait("RUNNING")
    copy.write(own=1)
    copy.kill()
    copy.flag().write_text("{}")
    copy.start()
    copy.wait("RUNNING")
    wait_for(lambda: not copy.flag().exists(), "the flag to be removed")
    assert copy.read() == {"own": 1}


def test_a_flag_without_an_upstream_starts_nothing(clusters: Clusters):
    cluster = clusters("main")
    cluster.flag().write_text("{}")
    cluster.start("master-0")
    process = cluster.processes["master-0"]
    assert process.wait(60) == 1
    assert cluster.log("master-0").splitlines()[0] == (
        f"neo_master.py: {cluster.flag()} says that this cluster is to become a backup, expected the options"
        " --upstream-cluster and --upstream-masters: give them, or remove the file to have an empty cluster"
    )


def test_masters_that_were_secondary_know_that_the_first_copy_is_complete(clusters: Clusters):
    main, copy = follow(clusters, masters=2)
    wait_for(lambda: not any(copy.flag(master).exists() for master in copy.nodes("master")), "both flags to be removed")


def test_a_master_that_missed_the_first_copy_learns_of_it(clusters: Clusters):
    main, copy = clusters.backup(masters=2)
    copy.start("master-0", "storage-0", "admin-0")
    copy.wait("BACKINGUP")
    wait_for(lambda: not copy.flag("master-0").exists(), "the first copy")
    assert copy.flag("master-1").exists()
    copy.start("master-1")
    wait_for(lambda: not copy.flag("master-1").exists(), "the other master to know")


def test_it_follows_although_the_primary_master_dies(clusters: Clusters):
    main, copy = follow(clusters, masters=2)
    status = copy.status()
    (address,) = [node.address for node in status.nodes if node.uuid == status.primary]
    (primary,) = [node for node, where in copy.addresses.items() if where == address]
    copy.kill(primary)
    copy.wait("BACKINGUP")
    assert follows(main, copy)


def test_an_admin_may_ask_for_the_ids_of_a_recovering_cluster(clusters: Clusters):
    """NEO's own master would die of it."""
    main, copy = follow(clusters, storages=2)
    copy.kill("storage-1")
    copy.wait("RECOVERING")
    command = [release() / "parts/neoppod/bin/neoctl", "-a", copy.addresses["admin-0"], "print", "ids"]
    assert "last_tid" in subprocess.run(command, env={}, capture_output=True, text=True, timeout=60).stdout
    copy.start()
    copy.wait("BACKINGUP")
    assert tid.to_time(copy.status().last_tid or 0) > 0


def test_an_upstream_with_another_number_of_partitions_is_named_as_the_reason(clusters: Clusters):
    main, _ = clusters.backup("another")
    copy = clusters("copy", upstream=main, partitions=6)
    copy.start()
    wait_for(lambda: not copy.runs("master-0"), "the master to end")
    assert (copy.folder / "upstream-partitions").read_text() == "4\n"
    said = (copy.folder / "master-0.out").read_text()
    assert said.endswith(
        "neo_master.py: partitions: it is 6, but the upstream has 4, expected the same, which no parameter changes:"
        " request another instance\n"
    )
    assert "Traceback" not in said
    assert main.read() == {"before": "kept"}
