# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against a takeover, and what it would lose: each state of the world, and the whole line."""

import dataclasses

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import detach, resume, takeover
from slapos.recipe.erp5.mariadb.gtid import parse
from slapos.recipe.erp5.mariadb.preflight import LastKnown, Snapshot
from slapos.recipe.erp5.mariadb.replication_status import Upstream
from slapos.recipe.erp5.mariadb.role_state import Change, Fence, HandOver, RoleState
from slapos.recipe.erp5.mariadb.sql_replication import Thread
from tests.unit.mariadb.test_verdict_replication import NOW, SOURCE, THEIRS, THERE, primary, source, status

DEAD = Upstream(error="timed out")
AHEAD = dataclasses.replace(THEIRS, binlog_pos="0-1-57", binlog_state="0-1-57")
BACKUP = "2026-11-22T01:00:00Z"
LATER = times.parse(BACKUP) + resume.SETTLING
STOPPED = Thread("No", 1062, "Duplicate entry")


def snapshot(judged=None, **changes):
    values = {"now": NOW, "status": judged or status(upstream=DEAD), "role": RoleState(), "backup": BACKUP}
    return Snapshot(**values | changes)


def reasons(judged: Snapshot, *levels):
    return takeover.decide(judged).sentences(*(levels or ("refuse", "force", "warn")))


def test_a_dead_primary_of_which_all_is_known_to_be_here():
    found = takeover.decide(snapshot(known=LastKnown("0-1-50", BACKUP, 0.0), control_url="https://x/#t"))
    assert (found.refused, found.needs_force) == (False, False)
    assert (found.lost_transactions, found.lost_seconds) == (0, 0.0)
    assert [f"{one.level}: {one.sentence}" for one in found.reasons] == [
        "info: the replica is 0 s behind",
        f"info: the primary at {THERE} does not answer (timed out)",
        f"info: the newest backup here was begun at {BACKUP}, 11 h ago",
    ]


def test_a_dead_primary_of_which_nothing_is_known_needs_no_force():
    found = takeover.decide(snapshot())
    assert (found.refused, found.needs_force, found.lost_transactions) == (False, False, None)
    assert found.sentences("warn") == (
        "what the primary had last is not known here, so that nobody can tell what was not received",
        f"nobody can fence {THERE} when it comes back, as its takeover-url is not known here, expected it in "
        "replication.control-url, or with this action: see that it does not come back as a primary",
    )


def test_a_dead_primary_that_had_more():
    found = takeover.decide(snapshot(known=LastKnown("0-1-57", BACKUP, 3.0)))
    assert (found.lost_transactions, found.lost_seconds, found.needs_force) == (7, 3.0, True)
    assert found.sentences("force") == (
        f"the primary had 7 more transactions at {BACKUP} than were received here, expected all of them: they would be "
        "lost; start the primary if it can be started",
    )


def test_what_was_kept_over_a_restart_counts_as_received():
    kept = parse("0-1-57")
    found = takeover.decide(snapshot(known=LastKnown("0-1-57", BACKUP, 3.0), kept=kept))
    assert (found.lost_transactions, found.needs_force) == (0, False)
    assert "7 transactions were received and not applied yet: that is done first" in found.sentences("info")


def test_a_living_primary_without_its_token():
    found = takeover.decide(snapshot(status(upstream=Upstream(facts=AHEAD))))
    assert found.needs_force
    assert found.lost_transactions == 7
    assert found.sentences("force") == (
        f"the primary at {THERE} answers, and has 7 transactions that were not received here, and could go on writing, "
        "expected to be able to fence it: give its takeover-url (control-url), or stop it, or use "
        "bin/mariadb-switchover",
    )


def test_a_living_primary_with_its_token_is_fenced_and_nothing_is_lost():
    found = takeover.decide(snapshot(status(upstream=Upstream(facts=AHEAD)), control_url="https://x/#t"))
    assert (found.refused, found.needs_force, found.lost_transactions) == (False, False, 0)
    assert (
        f"the primary at {THERE} answers: it is fenced first, and the rest of what it has fetched"
        in found.sentences("info")
    )


def test_a_living_primary_from_which_nothing_comes():
    broken = status(source(io=Thread("No", 1236, "purged")), upstream=Upstream(facts=AHEAD))
    found = takeover.decide(snapshot(broken, control_url="https://x/#t"))
    assert (found.needs_force, found.lost_transactions) == (True, 7)
    assert found.sentences("force") == (
        "the thread that receives does not run (purged (1236)), so that 7 transactions of the primary's would be lost, "
        "expected it to run: the promise mariadb-replication says what to do",
    )


def test_a_primary_that_refuses_us_is_alive():
    refusing = Upstream(error="denied", refused=True)
    assert takeover.is_reachable(snapshot(status(upstream=refusing)))
    assert not takeover.is_reachable(snapshot(status(upstream=DEAD)))


def test_received_and_cannot_be_applied():
    stopped = status(source(sql=STOPPED, gtid_io_pos="0-1-53"), upstream=DEAD)
    assert reasons(snapshot(stopped), "force") == (
        "the thread that applies is stopped (Duplicate entry (1062)), and 3 transactions were received and not applied,"
        " expected it to run: remove the cause, and START SLAVE SQL_THREAD in bin/mariadb",
    )
    stopped = status(source(sql=STOPPED), upstream=DEAD)
    assert reasons(snapshot(stopped), "force") == ()


def test_transactions_of_its_own_are_told():
    facts = dataclasses.replace(status().own.facts, binlog_state="0-1-50,0-7-51")
    assert "this replica has transactions that its primary has not (GTID 0-7-51), expected none" in reasons(
        snapshot(status(facts=facts, upstream=DEAD)), "warn"
    )


def test_no_backup_is_told():
    assert "there is no backup here, expected one: bin/mariadb-dump-script makes one" in reasons(
        snapshot(backup=""), "warn"
    )


@pytest.mark.parametrize(
    ("judged", "sentence"),
    [
        (primary(), "this database is a primary, expected a replica: there is nothing to take over"),
        (
            status(own=None, error="refused"),
            "no server answers on /p/s (refused), expected this replica's: start the service mariadb",
        ),
        (
            status((SOURCE, dataclasses.replace(SOURCE, name="more"))),
            f"this database replicates by the connections '' ({THERE}), 'more' ({THERE}), expected the one without a "
            "name: remove the others (RESET SLAVE 'name' ALL in bin/mariadb)",
        ),
    ],
)
def test_what_no_force_can_do(judged, sentence):
    found = takeover.decide(snapshot(judged))
    assert found.refused
    assert found.sentences("refuse") == (sentence,)


def test_only_a_primary_that_answers_can_tell_what_one_that_was_a_primary_may_have():
    facts = dataclasses.replace(status().own.facts, binlog_state="0-1-50,0-7-51")
    before = RoleState(last=Change("rejoin", BACKUP, "a:1", "mysql://b:2"))
    told = [
        any(
            "that its primary has not" in one
            for one in reasons(snapshot(status(facts=facts, upstream=up), role=before))
        )
        for up in (DEAD, Upstream(facts=THEIRS))
    ]
    assert told == [False, True]


def test_a_detach_asks_nothing_of_the_primary():
    found = detach.decide(snapshot(status(upstream=Upstream(facts=AHEAD))))
    assert (found.refused, found.needs_force) == (False, False)
    assert found.sentences("info") == (
        "the replica is 0 s behind",
        f"what {THERE} writes from now on does not come here, and nothing is done to it",
    )
    assert detach.decide(snapshot(primary())).refused


@pytest.mark.parametrize(
    ("state", "replica", "level", "sentence"),
    [
        (
            RoleState(),
            True,
            "refuse",
            "this database is a replica, expected a primary: bin/mariadb-takeover makes it one",
        ),
        (
            RoleState(Fence("program", "x", BACKUP), hand_over=HandOver("i", "c", "mysql://b:2", "0-1-5", BACKUP)),
            False,
            "force",
            f"it was fenced at {BACKUP} to hand over to mysql://b:2, which may be the primary by now, expected to know "
            "that it is not: look there, and rejoin it if it is",
        ),
        (
            RoleState(last=Change("rejoin", BACKUP, "a:1", "mysql://b:2")),
            False,
            "force",
            f"since {BACKUP} (rejoin) the primary is mysql://b:2, expected no second one: rejoin that one",
        ),
        (
            RoleState(Fence("its replica", "takeover", BACKUP, "mysql://b:2")),
            False,
            "force",
            f"it was fenced at {BACKUP} (takeover) for mysql://b:2 to be the primary, expected no second one: look "
            "there, and rejoin it if it is",
        ),
    ],
)
def test_when_a_fence_stays(state, replica, level, sentence):
    assert resume.decide(state, replica, writable=False, now=LATER).sentences(level) == (sentence,)


def test_a_hand_over_that_may_end_at_any_moment_is_not_cut_short_by_force():
    state = RoleState(Fence("program", "x", BACKUP), hand_over=HandOver("i", "c", "mysql://b:2", "0-1-5", BACKUP))
    soon = times.parse(BACKUP) + resume.SETTLING / 2
    found = resume.decide(state, replica=False, writable=False, now=soon)
    assert found.sentences("refuse") == (
        f"it hands over to mysql://b:2 since {BACKUP}, which may become the primary at any moment, expected 60 s to "
        "have passed: wait, it mostly ends by itself",
    )


def test_a_fence_of_our_own_goes():
    found = resume.decide(RoleState(Fence("page", "x", BACKUP)), replica=False, writable=False, now=LATER)
    assert (found.refused, found.needs_force) == (False, False)
