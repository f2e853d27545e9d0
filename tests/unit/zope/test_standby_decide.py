# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a Zope: every state of its database and of its process, without either."""

import pytest

from slapos.recipe.erp5.zope.standby_decide import (
    ALL,
    FAILING,
    GRACE,
    HELD,
    SERVING,
    STARTING,
    WAITING,
    Database,
    Decision,
    Process,
    decide,
    hold_after,
    is_held,
)

NOW = 1000.0
NAME = "the NEO cluster main"
RUNS = Database(NAME, "RUNNING", 0.0)
NONE, NEW, READY = Process(), Process(runs=True), Process(runs=True, ready=True)
STATES = ["RECOVERING", "VERIFYING", "STARTING_BACKUP", "BACKINGUP", "STOPPING_BACKUP", "STOPPING", ""]


def decided(database=RUNS, process=NONE, held=False, first=False) -> Decision:
    return decide(database, process, held, first, NOW)


def down(state: str, seconds: float = 1.0) -> Database:
    return Database(NAME, state, NOW - seconds)


def test_it_is_started_when_the_database_serves():
    assert decided() == Decision(STARTING, "it was just started", "start")


def test_it_waits_for_what_the_database_cannot_be_asked_without():
    database = Database(NAME, "", NOW - 1, reachable=True, lacks="it has no certificate of that yet")
    assert decided(database) == Decision(WAITING, "it has no certificate of that yet")
    assert decided(database, held=True).state == HELD


def test_it_serves_once_it_says_so():
    assert decided(process=NEW) == Decision(STARTING, "it was just started")
    assert decided(process=READY) == Decision(SERVING, "its database serves")


@pytest.mark.parametrize("state", STATES)
def test_it_is_not_started_on_a_database_that_does_not_serve(state: str):
    decision = decided(down(state))
    assert (decision.state, decision.act) == (WAITING, "")


@pytest.mark.parametrize("state", STATES)
def test_one_that_does_not_serve_yet_is_killed_at_once(state: str):
    assert decided(down(state, 0), NEW).act == "kill"


@pytest.mark.parametrize("state", ["STARTING_BACKUP", "BACKINGUP", "STOPPING_BACKUP", "STOPPING"])
def test_one_that_serves_is_killed_at_once_when_the_database_is_another_now(state: str):
    decision = decided(down(state, 0), READY)
    assert (decision.state, decision.act) == (WAITING, "kill")


@pytest.mark.parametrize("state", ["RECOVERING", "VERIFYING", ""])
def test_one_that_serves_is_left_alone_for_a_while_when_the_database_may_come_back(state: str):
    decision = decided(down(state, GRACE - 1), READY)
    assert (decision.state, decision.act) == (SERVING, "")
    assert decision.reason.endswith("; its requests wait for that")
    assert decided(down(state, GRACE), READY).act == "kill"
    assert decided(down(state, 0), Process(runs=True, ready=True, asked=True)).act == "kill"


def test_one_that_serves_is_left_alone_when_nobody_tells_the_state_but_masters_answer():
    unknown = Database(NAME, "", NOW - 10 * GRACE, reachable=True)
    assert decided(unknown, READY) == Decision(
        SERVING, "the NEO cluster main does not tell its state; it is left alone, as masters are there"
    )
    assert decided(unknown, NEW).act == "kill" and decided(unknown).act == ""


@pytest.mark.parametrize(
    "state, words",
    [
        ("BACKINGUP", "the NEO cluster main is BACKINGUP, a replica that serves nobody until it is taken over"),
        (
            "STARTING_BACKUP",
            "the NEO cluster main is STARTING_BACKUP, a replica that serves nobody until it is taken over",
        ),
        ("RECOVERING", "the NEO cluster main is RECOVERING, expected RUNNING"),
        ("", "the NEO cluster main does not answer"),
    ],
)
def test_the_reason_for_waiting(state: str, words: str):
    assert decided(down(state)).reason == words


def test_after_an_end_that_nobody_asked_for_it_is_failing_until_the_pause_is_over():
    ended = Process(start_at=NOW + 3, end="was killed by SIGSEGV")
    assert decided(process=ended) == Decision(FAILING, "it was killed by SIGSEGV and starts again in a moment")
    assert decided(process=Process(start_at=NOW, end="was killed by SIGSEGV")).act == "start"


def test_after_a_good_end_it_waits():
    assert decided(process=Process(start_at=NOW + 1)) == Decision(WAITING, f"{NAME} has just changed")


def test_a_database_that_does_not_serve_is_the_reason_rather_than_a_failure():
    ended = Process(start_at=NOW + 3, end="was killed by SIGSEGV")
    assert decided(down("BACKINGUP"), ended).state == WAITING


def test_one_that_was_asked_to_end_is_not_started_again_before_it_has():
    assert decided(process=Process(runs=True, ready=True, asked=True)) == Decision(
        WAITING, "its process is being ended"
    )


def test_one_alone_puts_the_first_objects_into_a_database():
    assert decided(first=True) == Decision(WAITING, "another one puts the first objects into the database")
    assert decided(process=READY, first=True).state == SERVING


@pytest.mark.parametrize(
    "database, process, act",
    [
        (RUNS, NONE, ""),
        (RUNS, READY, "end"),
        (RUNS, Process(runs=True, ready=True, asked=True), ""),
        (down("BACKINGUP"), Process(runs=True, ready=True, asked=True), "kill"),
        (down("BACKINGUP"), NONE, ""),
        (down("RECOVERING", GRACE + 1), READY, "end"),
    ],
)
def test_one_that_is_held_ends(database: Database, process: Process, act: str):
    assert decided(database, process, held=True) == Decision(HELD, "it is held back until somebody releases it", act)


FAMILIES = frozenset({"web", "jobs", "test"})


@pytest.mark.parametrize(
    "held, command, family, after",
    [
        ([], "hold", "web", ["web"]),
        (["web"], "hold", "jobs", ["web", "jobs"]),
        (["web"], "hold", ALL, [ALL]),
        ([ALL], "hold", "web", [ALL]),
        (["web", "jobs"], "release", "web", ["jobs"]),
        ([ALL], "release", "web", ["jobs", "test"]),
        (["web"], "release", ALL, []),
        ([], "release", "web", []),
    ],
)
def test_what_is_held_after_a_request(held: list[str], command: str, family: str, after: list[str]):
    assert hold_after(frozenset(held), FAMILIES, command, family) == frozenset(after)


def test_who_is_held():
    assert is_held(frozenset(["web"]), "web") and is_held(frozenset([ALL]), "web")
    assert not is_held(frozenset(["jobs"]), "web")
