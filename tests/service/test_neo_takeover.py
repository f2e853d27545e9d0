# SPDX-License-Identifier: GPL-2.0-or-later
"""A takeover keeps what the backup has, for good; what would leave a cluster that cannot start is refused."""

import json
import signal
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import Refused
from tests.service.neo_fixtures import Cluster, Clusters, follow
from tests.service.servers import wait_for


def take_over(copy: Cluster) -> None:
    with copy.asker() as asker:
        asker.set_state("STOPPING_BACKUP")
    copy.wait("RUNNING")


def refused(cluster: Cluster, state: str) -> str:
    """Why NEO refuses a state; nothing has changed or died."""
    with cluster.asker() as asker:
        before = asker.status().cluster_state
        with pytest.raises(Refused) as error:
            asker.set_state(state)
        assert asker.status().cluster_state == before
    cluster.check()
    return str(error.value).removeprefix(f"the NEO cluster {cluster.name} was asked for set-state {state}: ")


@pytest.mark.parametrize("layout", [{}, {"masters": 2, "storages": 2, "partitions": 6, "replicas": 1}], ids=str)
def test_after_the_upstreams_death_the_backup_takes_over_and_stays_what_it_is(clusters: Clusters, layout: dict):
    main, copy = follow(clusters, **layout)
    things = {"before": "kept", "more": [1, 2], "last": "too"}
    *_, last = main.write(**things)
    copy.wait_for_tid(last)
    main.kill()
    copy.wait("STARTING_BACKUP")
    status = copy.status()
    assert status.backup_tid == status.last_tid == last
    take_over(copy)
    assert copy.read() == things
    copy.write(own="new")
    copy.kill()
    copy.start()
    copy.wait("RUNNING")
    assert copy.read() == {**things, "own": "new"}
    assert copy.status().backup_tid is None


def test_of_a_living_upstream_it_takes_over_too_and_stays_apart_from_it(clusters: Clusters):
    main, copy = follow(clusters)
    take_over(copy)
    copy.write(mine=1)
    main.write(theirs=2)
    copy.kill()
    copy.start()
    copy.wait("RUNNING")
    assert copy.read() == {"before": "kept", "mine": 1}
    assert main.read() == {"before": "kept", "theirs": 2}


def test_what_had_not_arrived_is_cut_off(clusters: Clusters):
    main, copy = follow(clusters)
    have = copy.status().backup_tid
    copy.processes["storage-0"].send_signal(signal.SIGSTOP)
    *_, last = main.write(lost=1, too=2)
    wait_for(lambda: copy.status().last_tid == last, "the backup's master to know of it")
    main.kill()
    copy.processes["storage-0"].send_signal(signal.SIGCONT)
    copy.wait("STARTING_BACKUP")
    status = copy.status()
    assert have and status.backup_tid and status.last_tid and have <= status.backup_tid < status.last_tid == last
    take_over(copy)
    assert copy.read() == {"before": "kept"}
    assert copy.status().last_tid == have
    copy.write(own="new")


def test_a_takeover_survives_the_death_of_all_during_it(clusters: Clusters):
    main, copy = follow(clusters, storages=2)
    main.kill()
    copy.wait("STARTING_BACKUP")
    with copy.asker() as asker:
        asker.set_state("STOPPING_BACKUP")
    copy.kill()
    copy.start()
    with copy.asker() as asker:
        wait_for(lambda: asker.status().cluster_state in ("RUNNING", "STARTING_BACKUP"), "a state")
        if asker.status().cluster_state == "STARTING_BACKUP":  # it had not come that far
            asker.set_state("STOPPING_BACKUP")
    copy.wait("RUNNING")
    assert copy.read() == {"before": "kept"}


# Guards


def test_nothing_is_taken_over_of_an_upstream_that_was_never_there(clusters: Clusters):
    main, copy = clusters.backup()
    main.kill()
    copy.start()
    copy.wait("STARTING_BACKUP")
    assert refused(copy, "STOPPING_BACKUP") == (
        "STOPPING_BACKUP refused: nothing of the upstream was copied yet,"
        " and a takeover would leave a database that cannot start"
    )
    copy.kill()
    copy.start()
    copy.wait("STARTING_BACKUP")
    main.start()
    copy.wait("BACKINGUP")


def first_copy_held_up(clusters: Clusters) -> tuple[Cluster, Cluster, int]:
    """(upstream, its backup, goal): the upstream was empty, and of its first transaction nothing can arrive."""
    main = clusters("main")
    main.start()
    main.wait("RUNNING")
    copy = clusters("copy", upstream=main, masters=2)
    copy.start()
    copy.wait("BACKINGUP")
    copy.processes["storage-0"].send_signal(signal.SIGSTOP)
    main.write(before="kept")
    wait_for(lambda: copy.status().first_copy_goal, "a goal")
    return main, copy, copy.status().first_copy_goal or 0


def flags(copy: Cluster) -> list[Path]:
    return [copy.flag(master) for master in copy.nodes("master")]


def test_nothing_is_taken_over_during_the_first_copy(clusters: Clusters):
    main, copy, goal = first_copy_held_up(clusters)
    assert copy.status().backup_tid == goal - 1  # an empty database would be left, although this is not zero
    reason = refused(copy, "STOPPING_BACKUP")
    assert reason.startswith(
        "STOPPING_BACKUP refused: the first copy of the upstream is not complete, and a takeover would leave an old or"
        " empty database: wait for it; if an old one is better than none, remove "
    )
    assert any(reason.endswith(f" remove {flag} and ask again") for flag in flags(copy))
    copy.processes["storage-0"].send_signal(signal.SIGCONT)
    copy.wait_for_tid(goal)
    take_over(copy)
    assert copy.read() == main.read() == {"before": "kept"}


def test_the_first_copys_end_is_remembered_over_restarts(clusters: Clusters):
    """By all masters; and the upstream, which goes on meanwhile, does not move it."""
    main, copy, goal = first_copy_held_up(clusters)
    wait_for(lambda: all("goal" in flag.read_text() for flag in flags(copy)), "both masters to know")
    assert [json.loads(flag.read_text()) for flag in flags(copy)] == [{"goal": f"0x{goal:x}"}] * 2
    main.write(after=1)
    main.kill()
    copy.kill()
    copy.start()
    copy.wait("STARTING_BACKUP")
    assert copy.status().first_copy_goal == goal
    assert "refused" in refused(copy, "STOPPING_BACKUP")
    main.start()
    copy.wait("BACKINGUP")
    wait_for(lambda: not any(flag.exists() for flag in flags(copy)), "the flags to be removed")
    assert (copy.status().backup_tid or 0) >= goal
    assert copy.status().first_copy_goal is None


def test_becoming_a_backup_without_an_upstream_is_refused(clusters: Clusters):
    main = clusters("main")
    main.start()
    main.wait("RUNNING")
    main.write(one=1)
    assert refused(main, "STARTING_BACKUP") == (
        "STARTING_BACKUP refused: this cluster has no upstream, and its masters would die at this and every later"
        " start: start them with --upstream-cluster and --upstream-masters first"
    )
    main.kill()
    main.start()
    main.wait("RUNNING")
    assert main.read() == {"one": 1}


def test_a_running_empty_cluster_that_is_made_a_backup_has_a_first_copy_too(clusters: Clusters):
    main, copy = clusters.backup()
    copy.flag().unlink()
    copy.start()
    copy.wait("RUNNING")
    main.kill()
    with copy.asker() as asker:
        asker.set_state("STARTING_BACKUP")
    copy.wait("STARTING_BACKUP")
    assert copy.flag().exists()
    copy.kill()  # at once: NEO's own would have come back RUNNING
    copy.start()
    copy.wait("STARTING_BACKUP")
    assert "nothing of the upstream was copied yet" in refused(copy, "STOPPING_BACKUP")
    main.start()
    copy.wait("BACKINGUP")
    wait_for(lambda: not copy.flag().exists(), "the flag to be removed")
    take_over(copy)
    assert copy.read() == {"before": "kept"}
