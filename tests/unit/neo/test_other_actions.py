# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against fence, resume and rejoin of NEO, and what they leave: the whole line."""

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest

from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.neo import fence, resume
from slapos.recipe.erp5.neo import rejoin as rejoining
from slapos.recipe.erp5.neo import rejoin_decide as rejoin
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.diverged import Comparison
from slapos.recipe.erp5.neo.rejoin_decide import Found
from slapos.recipe.erp5.neo.role_state import Fence, Rejoin, RoleState
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT, LAST, LAST_TEXT, UPSTREAM, later, status

NEW = Upstream("new", "127.0.0.1:30100")
BY_PEOPLE = Fence("page", "the action fence", AT)
FOR_NEW = Fence("its backup new", "takeover of new", AT, NEW)
ALL_THERE = Comparison(LAST, 0, (), 7)
ONE_MORE = Comparison(LAST, 1, (later(2),), 8)


def lines(preflight):
    return [f"{one.level}: {one.sentence}" for one in preflight.reasons]


# ---- fence


def test_a_fence_stops_all_clients():
    found = fence.decide(RoleState(), status(cluster_state="RUNNING"))
    assert lines(found) == ["warn: its masters are stopped: clients can neither read nor write, and wait"]


def test_a_fenced_backup_follows_nobody():
    assert lines(fence.decide(RoleState(), status())) == [
        "warn: this cluster is a backup, which takes no writes: fenced, it follows nobody"
    ]


def test_a_second_fence():
    found = fence.decide(RoleState(fenced=BY_PEOPLE), Status(reason="no master"))
    assert lines(found) == [f"info: this cluster is fenced already, since {AT} (the action fence)"]


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (None, BY_PEOPLE, BY_PEOPLE),
        (BY_PEOPLE, dataclasses.replace(BY_PEOPLE, reason="again"), BY_PEOPLE),
        (BY_PEOPLE, FOR_NEW, FOR_NEW),
        (FOR_NEW, BY_PEOPLE, FOR_NEW),
        (FOR_NEW, dataclasses.replace(FOR_NEW, tid="0x05"), dataclasses.replace(FOR_NEW, tid="0x05")),
        (dataclasses.replace(FOR_NEW, tid="0x05"), FOR_NEW, dataclasses.replace(FOR_NEW, tid="0x05")),
    ],
)
def test_who_is_to_be_the_primary_is_not_forgotten(before, wanted, after):
    assert fence.after(before, wanted) == after


# ---- resume


def test_resume_of_what_people_fenced():
    assert lines(resume.decide(RoleState(fenced=BY_PEOPLE))) == []


def test_resume_of_what_is_not_fenced():
    assert lines(resume.decide(RoleState())) == ["info: this cluster is not fenced"]


def test_there_is_to_be_no_second_primary():
    assert lines(resume.decide(RoleState(fenced=FOR_NEW))) == [
        f"force: it was fenced at {AT} (takeover of new) for new to be the primary, expected no second one: look there,"
        " and rejoin it if it is"
    ]


def test_a_rejoin_is_completed_and_not_undone():
    state = RoleState(fenced=FOR_NEW, rejoin=Rejoin("1", NEW, True, "", AT))
    assert lines(resume.decide(state)) == [
        f"refuse: this cluster is about to become a backup of new since {AT}, expected no such thing to be open: run"
        " bin/neo-rejoin again, which completes it"
    ]


# ---- rejoin


def test_whose_backup():
    assert lines(rejoin.decide(Found("old", "", None), None, False)) == [
        "refuse: nobody has said which cluster this one is to be a backup of: give what that publishes as neo-cluster"
        " and neo-masters (--upstream-cluster-file and --upstream-masters-file, or the same fields on the page)"
    ]


def test_no_backup_of_itself():
    assert lines(rejoin.decide(Found("new", "", None), NEW, True)) == [
        "refuse: new is this very cluster, expected another one's name: NEO refuses a backup of itself"
    ]


def test_a_backup_of_it_already():
    assert lines(rejoin.decide(Found("old", "BACKINGUP", NEW), NEW, False)) == [
        "info: this cluster is a backup of new already"
    ]


def test_a_backup_of_another_one_may_change():
    assert lines(rejoin.decide(Found("old", "STARTING_BACKUP", UPSTREAM, ALL_THERE), NEW, False)) == [
        f"info: new has all that this cluster has since {LAST_TEXT}"
    ]


def test_nothing_is_here_that_the_new_one_lacks():
    found = rejoin.decide(Found("old", "", None, ALL_THERE), NEW, False)
    assert lines(found) == [f"info: new has all that this cluster has since {LAST_TEXT}"]
    assert (found.lost_transactions, found.lost_seconds) == (0, 0.0)


def test_a_foreign_transaction():
    found = rejoin.decide(Found("old", "", None, ONE_MORE), NEW, False)
    (line,) = lines(found)
    assert line.startswith("refuse: this cluster has 1 transaction that new lacks (0x")
    assert line.endswith(
        " (2026-11-22 01:00:02.000 UTC)), expected none: NEO would follow it all the same, and be silently another"
        " database, so it is only possible with --reset, which copies all anew and keeps the old storages beside"
    )
    assert found.lost_transactions == 1


def test_many_foreign_transactions_are_not_all_named():
    many = Comparison(0, 9, tuple(later(second) for second in range(5)), 9)
    (line,) = lines(rejoin.decide(Found("old", "", None, many), NEW, False))
    assert line.count("UTC") == 5
    assert "has 9 transactions that new lacks" in line
    assert ", and so on), expected none" in line


def test_what_cannot_be_compared():
    assert lines(rejoin.decide(Found("old", "", None, None, "it does not answer"), NEW, False)) == [
        "refuse: the transactions here cannot be compared with those of new (it does not answer), expected to know that"
        " it has all of them: remove the cause, or reset (--reset), which copies all anew and keeps the old storages"
    ]


@pytest.mark.parametrize(
    ("comparison", "level", "line"),
    [
        (None, "warn", "the transactions here cannot be compared with those of new (it does not answer)"),
        (ALL_THERE, "info", f"new has all that this cluster has since {LAST_TEXT}: it could rejoin as it is"),
    ],
)
def test_a_reset_says_what_it_is_about(comparison, level, line):
    found = Found("old", "", None, comparison, "" if comparison else "it does not answer")
    assert lines(rejoin.decide(found, NEW, True)) == [
        f"{level}: {line}",
        "warn: all is copied anew from new: the storages that are here now are put aside, and kept",
        "info: until that copy is complete, this cluster can take over from nobody",
    ]


def test_a_reset_leaves_foreign_transactions_behind():
    (first, *_) = lines(rejoin.decide(Found("old", "", None, ONE_MORE), NEW, True))
    assert first.startswith("warn: this cluster has 1 transaction that new lacks (")
    assert first.endswith("), expected none: they stay in the old storages alone")
    assert (
        rejoin.decide(Found("old", "", None, ONE_MORE), NEW, True).lost == "1 transaction, which the old storages keep"
    )


def test_what_is_refused_is_refused_before_the_fence_and_what_came_meanwhile_tells_of_it(tmp_path, monkeypatch):
    (tmp_path / "srv").mkdir()
    config = partition.cluster(partition=str(tmp_path))
    done, comparisons = [], []
    monkeypatch.setattr(rejoining, "asker", lambda config: contextlib.nullcontext(SimpleNamespace(status=Status)))
    monkeypatch.setattr(rejoining, "compare", lambda *_: comparisons.pop(0))
    monkeypatch.setattr(rejoining.fence, "fence", lambda *_: done.append("fence"))
    monkeypatch.setattr(rejoining, "complete", lambda *_: done.append("complete"))
    act = SimpleNamespace(by="page", step=lambda sentence: None, details={})
    options = {"upstream-cluster": NEW.cluster, "upstream-masters": NEW.masters}
    comparisons[:] = [ONE_MORE]
    with pytest.raises(Refused) as error:
        rejoining.run(config, act, options)
    assert str(error.value).endswith("and keeps the old storages beside") and done == []
    comparisons[:] = [ALL_THERE, ONE_MORE]
    with pytest.raises(Refused) as error:
        rejoining.run(config, act, options)
    assert str(error.value).endswith(
        "keeps the old storages beside; its masters are stopped: bin/neo-resume --force lets it go on"
    )
    assert done == ["fence"]
    comparisons[:] = [ALL_THERE, ALL_THERE]
    rejoining.run(config, act, options)
    comparisons[:] = [ONE_MORE]  # a reset compares once, as it is not refused for that
    rejoining.run(config, act, options | {"reset": True})
    assert done == ["fence", "fence", "complete", "fence", "complete"]


# ---- whose backup


def config_asking_for(upstream):
    return dataclasses.replace(partition.cluster(), requested_upstream=upstream)


@pytest.mark.parametrize(
    ("options", "state", "requested", "expected"),
    [
        ({}, RoleState(), None, None),
        ({}, RoleState(), UPSTREAM, UPSTREAM),
        ({}, RoleState(fenced=FOR_NEW), UPSTREAM, NEW),
        ({}, RoleState(upstream=NEW), None, NEW),
        ({}, RoleState(fenced=BY_PEOPLE), UPSTREAM, UPSTREAM),
        ({"upstream-cluster": "x", "upstream-masters": " a:1  [::1]:2 "}, RoleState(fenced=FOR_NEW), UPSTREAM, "x"),
    ],
)
def test_what_is_given_goes_before_who_fenced_it_and_that_before_parameters(options, state, requested, expected):
    found = rejoining.target(config_asking_for(requested), state, options)
    assert found == (Upstream("x", "a:1 [::1]:2") if expected == "x" else expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"upstream-cluster": "x"},
            "only one of upstream-cluster and upstream-masters is given, expected both, or none",
        ),
        (
            {"upstream-cluster": "x", "upstream-masters": "host"},
            "upstream-masters are no addresses, expected HOST:PORT with spaces between, as it publishes them",
        ),
    ],
)
def test_what_is_given_has_to_be_whole(options, sentence):
    with pytest.raises(Refused) as error:
        rejoining.target(config_asking_for(None), RoleState(), options)
    assert str(error.value) == sentence


def test_from_where_on_both_may_differ():
    fenced = dataclasses.replace(FOR_NEW, tid="0x0000000000000007")
    assert rejoining.common_tid(RoleState(fenced=fenced), NEW) == 7
    assert rejoining.common_tid(RoleState(fenced=fenced), UPSTREAM) == 0
    assert rejoining.common_tid(RoleState(fenced=FOR_NEW), NEW) == 0
    assert rejoining.common_tid(RoleState(), NEW) == 0
