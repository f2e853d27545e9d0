# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against a takeover of NEO, and what it would lose: each state of the world, and the whole line."""

import contextlib
import dataclasses

import pytest

from slapos.recipe.erp5.neo import detach, old_primary, takeover
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Status
from tests.unit.neo.snapshots import AT, LAST, LAST_TEXT, STORAGES, URL, later, snapshot, status

DOWN = dataclasses.replace(STORAGES[1], state="DOWN")


def lines(judged, decide=takeover.decide):
    return [f"{one.level}: {one.sentence}" for one in decide(judged).reasons]


def test_a_dead_upstream_of_which_all_is_here():
    judged = snapshot(control_url=URL)
    assert lines(judged) == [
        "info: the upstream old does not answer (timed out)",
        "info: nothing is known that the upstream had and this backup has not",
    ]
    assert takeover.decide(judged).lost_seconds == 0.0


def test_nobody_can_fence_an_upstream_without_its_token():
    assert lines(snapshot())[2:] == [
        "warn: nobody can fence old when it comes back, as its takeover-url is not known here, expected it in"
        " upstream-control-url, or with this action: it would come back RUNNING, see that it does not",
    ]


def test_what_a_backup_is_always_behind_needs_no_force():
    judged = snapshot(status(backup_tid=later(-0.25)), control_url=URL)
    assert lines(judged)[1:] == [
        f"warn: the transactions after {tids.text(later(-0.25))} (2026-11-22 00:59:59.750 UTC) up to {LAST_TEXT}, 0.2 s"
        " of them would be lost, as a backup is that much behind an upstream that is written to",
    ]
    assert takeover.decide(judged).lost_seconds == pytest.approx(0.25, abs=1e-3)


def test_more_than_that_is_lost_by_force_alone():
    judged = snapshot(status(backup_tid=later(-300)), control_url=URL)
    assert lines(judged)[1:] == [
        f"force: the transactions after {tids.text(later(-300))} (2026-11-22 00:55:00.000 UTC) up to {LAST_TEXT}, 5 min"
        " of them would be lost, as they are not here, expected all of them: start the upstream if it can be started",
    ]


def test_what_the_upstream_was_seen_to_have_counts():
    judged = snapshot(known_tid=later(10), known_at=AT, control_url=URL)
    assert takeover.decide(judged).lost_seconds == pytest.approx(10, abs=1e-3)
    assert takeover.decide(judged).needs_force


def test_nothing_is_known_of_the_upstream():
    judged = snapshot(status(last_tid=None), control_url=URL)
    assert lines(judged)[1:] == [
        "warn: what the upstream had last is not known here, so that nobody can tell what would be lost",
    ]
    assert takeover.decide(judged).lost_seconds is None


def test_a_living_upstream_is_fenced_first():
    assert lines(snapshot(answers=True, control_url=URL)) == [
        "info: the upstream old answers: its clients are sent away, the rest of what they have committed is fetched,"
        " and it is fenced, which stops its masters",
    ]


def test_what_a_dry_run_has_asked_of_the_upstreams_partition():
    assert lines(snapshot(control_url=URL, unreached=("neo-node-0", "neo-node-1")))[2:] == [
        "warn: of the nodes of old, neo-node-0 and neo-node-1 cannot be reached by its own partition, and are fenced as"
        " soon as they can: see that no master runs there",
    ]
    assert lines(snapshot(control_url=URL, control_error="timed out"))[2:] == [
        "warn: old cannot be fenced yet (timed out): that is tried until it succeeds, see that it stays down until"
        " then",
    ]
    assert lines(snapshot(control_url=URL, control_error="timed out", answers=True))[1:] == [
        "force: old could not be fenced (timed out), expected its control page at the takeover-url that is known here:"
        " remove the cause, or stop its masters",
    ]


def test_only_a_dry_run_of_a_backup_asks_and_only_of_its_own_upstream(monkeypatch):
    class Peer(contextlib.AbstractContextManager):
        told = {"cluster": "old", "unreached": "neo-node-0 neo-node-1"}

        def __init__(self, url):
            assert url == URL

        def __exit__(self, *_):
            pass

        def ready(self, timeout):
            pass

        def call(self, name, parameters, timeout):
            return self.told

    monkeypatch.setattr(old_primary, "Peer", Peer)
    judged = snapshot(control_url=URL)
    assert old_primary.seen(judged) == dataclasses.replace(judged, unreached=("neo-node-0", "neo-node-1"))
    Peer.told = {"cluster": "third"}
    assert old_primary.seen(judged) == dataclasses.replace(judged, control_error="it is that of the cluster third")
    monkeypatch.setattr(old_primary, "Peer", lambda url: pytest.fail("it asked"))
    for judged in (snapshot(), snapshot(status(cluster_state="RUNNING"), control_url=URL)):
        assert old_primary.seen(judged) == judged


def test_what_is_behind_a_living_upstream_is_fetched():
    judged = snapshot(status(backup_tid=later(-5)), answers=True, control_url=URL)
    found = takeover.decide(judged)
    assert (found.needs_force, found.lost_seconds) == (False, 0.0)
    assert takeover.decide(dataclasses.replace(judged, control_url="")).lost_seconds == pytest.approx(5, abs=1e-3)


def test_a_living_upstream_without_its_token():
    assert lines(snapshot(answers=True)) == [
        "force: the upstream old answers, and could go on writing, expected to be able to fence it: give its"
        " takeover-url (control-url), or stop its masters",
    ]


def test_a_living_upstream_that_is_far_ahead():
    judged = snapshot(status(backup_tid=later(-7200)), answers=True, control_url=URL)
    assert lines(judged)[1:] == [
        f"force: the transactions after {tids.text(later(-7200))} (2026-11-21 23:00:00.000 UTC) up to {LAST_TEXT}, 2 h"
        " of them would be lost, as this backup is that much behind, expected less than 10 s: wait until it has"
        " caught up",
    ]


def test_once_it_is_fenced_only_what_is_missing_counts():
    judged = snapshot(status(cluster_state="STARTING_BACKUP", backup_tid=later(-5)), control_url=URL, fenced=True)
    assert lines(judged) == [
        f"force: the transactions after {tids.text(later(-5))} (2026-11-22 00:59:55.000 UTC) up to {LAST_TEXT}, 5.0 s"
        " of them would be lost, as they are not here, expected all of them: bin/neo-resume --force there lets the"
        " upstream go on",
    ]


@pytest.mark.parametrize("action", [takeover, detach])
def test_storages_that_do_not_run(action):
    judged = snapshot(status(nodes=(STORAGES[0], DOWN), replicas=1, cells_out_of_date=3), control_url=URL)
    assert lines(judged, action.decide)[-2:] == [
        "force: of the storages, S2 at 127.0.0.1:31002 (DOWN) do not run, expected all of them: the cluster would stay"
        " RECOVERING until they come back; start it, or force it, and the cluster goes on without it where replicas"
        " have the same data",
        "warn: 3 cells are out of date, expected none: their data is on other storages",
    ]


def refusal(judged, action=takeover):
    found = action.decide(judged)
    assert found.refused
    assert len(found.reasons) == 1
    return found.reasons[0].sentence


def test_no_primary_master():
    assert refusal(snapshot(Status(reason="admin 127.0.0.1:30500: connection closed"))) == (
        "no primary master answers (admin 127.0.0.1:30500: connection closed), expected this backup cluster's: see that"
        " the masters run on their nodes (service neo-master)"
    )


@pytest.mark.parametrize(("action", "verb"), [(takeover, "take over"), (detach, "detach")])
def test_a_primary(action, verb):
    assert refusal(snapshot(status(cluster_state="RUNNING")), action) == (
        f"this cluster is a primary (RUNNING), expected a backup: there is nothing to {verb}"
    )


def test_a_storage_without_replica_is_missing():
    assert refusal(snapshot(status(cluster_state="RECOVERING", nodes=(STORAGES[0], DOWN)))) == (
        "this cluster is RECOVERING, as it waits for the storages S2 at 127.0.0.1:31002 (DOWN), expected BACKINGUP or"
        " STARTING_BACKUP: start them on their nodes, or that data is not there to go on with"
    )


def test_on_its_way_somewhere_else():
    assert refusal(snapshot(status(cluster_state="VERIFYING"))) == (
        "this cluster is VERIFYING, expected BACKINGUP or STARTING_BACKUP: wait for that; the promise neo-cluster says"
        " what is missing"
    )


def test_the_first_copy_is_under_way():
    goal = f"{tids.text(later(60))} (2026-11-22 01:01:00.000 UTC)"
    assert refusal(snapshot(status(first_copy_goal=later(60)), answers=True)) == (
        f"the first copy of the upstream has come to {LAST_TEXT} of {goal}, and a part of a database is none to take"
        " over, expected all of it: wait for its end"
    )


def test_the_first_copy_can_never_be_complete():
    assert refusal(snapshot(status(backup_tid=0, first_copy_goal=0))) == (
        "nothing of the upstream is here, and a part of a database is none to take over, expected all of it: start the"
        " upstream old, as this cluster cannot take its place; if that is lost, there is nothing here to go on with,"
        " and another backup or a new cluster is the only way"
    )


def test_detach_leaves_a_living_upstream_alone():
    assert lines(snapshot(answers=True), detach.decide) == [
        "info: what old writes from now on does not come here, and nothing is done to it",
    ]


def test_detach_far_behind():
    judged = snapshot(status(backup_tid=later(-300)))
    assert lines(judged, detach.decide)[1:] == [
        f"warn: this cluster ends at {tids.text(later(-300))} (2026-11-22 00:55:00.000 UTC), 5 min before the last"
        f" transaction of old that is known, {LAST_TEXT}",
    ]


def test_the_last_tid_is_the_greatest_that_was_seen():
    assert snapshot(known_tid=LAST - 1).upstream_tid == LAST
