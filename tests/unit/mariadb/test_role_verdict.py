# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promise says after a change of role: whole lines."""

import pytest

from slapos.recipe.erp5.mariadb import replication_verdict
from slapos.recipe.erp5.mariadb.replication_status import Upstream as Asked
from slapos.recipe.erp5.mariadb.replication_status import Wanted
from slapos.recipe.erp5.mariadb.role_state import Change, Fence, HandOver, PendingFence, Promotion, RoleState, Upstream
from tests.unit.mariadb.test_verdict_replication import NOW, OURS, THEIRS, THERE, WANTED, primary, status

AT = "2026-11-22T11:00:00Z"
OTHER = Wanted("10.0.0.9", 20000, "replication_user", "10.0.0.9:20000", True, 0)
AFTER = "expected parameters that say what it is: "
TAKEN = Change("takeover", AT, THERE, "")
FOLLOWED = RoleState(upstream=Upstream("mysql://u:p@10.0.0.1:20000"), last=Change("rejoin", AT, "", f"mysql://{THERE}"))


def sentences(judged) -> tuple[str, ...]:
    found = replication_verdict.replication(judged, NOW)
    assert not found.good
    return found.sentences


def is_good(judged) -> bool:
    return replication_verdict.replication(judged, NOW).good


def promoted(**changes):
    """A primary that the parameters still want to be a replica."""
    return primary(**{"facts": THEIRS, "wanted": WANTED, "asked": WANTED} | changes)


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("takeover", f"was taken over at {AT} (it was a replica of {THERE} before)"),
        ("switchover", f"exchanged its role with {THERE} at {AT} (it was its replica before)"),
        ("detach", f"was detached at {AT} (it was a replica of {THERE} before)"),
    ],
)
def test_a_new_primary_that_the_parameters_want_as_a_replica(action, what):
    role = RoleState(last=Change(action, AT, THERE, ""))
    assert sentences(promoted(role=role)) == (
        f"this database {what} and is a primary now, while replication.primary-url still asks for a replica of {THERE},"
        f" {AFTER}remove the parameter replication, which restarts nothing",
    )


def test_an_old_primary_that_is_not_fenced():
    (sentence,) = sentences(promoted(role=RoleState(last=Change("takeover", AT, THERE, "", unfenced=True))))
    assert sentence.endswith(f"; nobody has fenced the old primary at {THERE}: see that it does not come back as one")
    pending = PendingFence(THERE, "https://10.0.0.1:26000/#secret", AT)
    (sentence,) = sentences(promoted(role=RoleState(last=TAKEN, fence_pending=pending)))
    assert sentence.endswith(
        f"; the old primary at {THERE} is not fenced yet, as its control page has not answered since {AT}: see that "
        "nobody writes to it, and mariadb-control goes on trying"
    )
    assert "secret" not in sentence


def test_it_is_green_once_the_parameters_say_so():
    pending = PendingFence(THERE, "https://10.0.0.1:26000/#secret", AT)
    assert is_good(primary(role=RoleState(last=TAKEN)))
    assert is_good(primary(role=RoleState(last=TAKEN, fence_pending=pending)))


def test_a_replica_that_an_action_made():
    changed = (
        f"this database replicates from {THERE} since {AT} (by rejoin), while {{}}, {AFTER}set replication.primary-url "
        f"to the replication-primary-url of {THERE}, which restarts nothing"
    )
    assert sentences(status(role=FOLLOWED, asked=None)) == (changed.format("there is no parameter replication"),)
    assert sentences(status(role=FOLLOWED, asked=OTHER)) == (
        changed.format("replication.primary-url still says 10.0.0.9:20000"),
    )
    assert is_good(status(role=FOLLOWED, asked=WANTED))


def test_a_replica_that_was_a_primary_has_transactions_of_its_own():
    """They are the new primary's too; nobody can compare while that one does not answer."""
    facts = OURS.__class__(**{**vars(OURS), "binlog_state": "0-1-50,0-7-45"})
    assert is_good(status(facts=facts, role=FOLLOWED, upstream=Asked(error="timed out")))
    assert not is_good(status(facts=facts, upstream=Asked(error="timed out")))


def test_a_change_that_was_interrupted():
    role = RoleState(last=TAKEN, promotion=Promotion("takeover", THERE, "0-1-5", AT))
    assert sentences(primary(role=role)) == (
        f"the takeover that was begun at {AT} did not come to its end, expected it to: run bin/mariadb-takeover again, "
        "which completes it or begins anew",
    )
    assert is_good(primary(role=role, acting=True))


def test_a_fence():
    fence = Fence("page", "the action fence", AT)
    assert sentences(primary(role=RoleState(fenced=fence))) == (
        f"this database is fenced and refuses writes since {AT}, by page (the action fence), expected a primary "
        "without a fence: bin/mariadb-resume, or bin/mariadb-rejoin if another database is the primary now",
    )
    handed = RoleState(fenced=fence, hand_over=HandOver("secret", "https://b:1", "mysql://b:2", "0-1-5", AT))
    assert sentences(primary(role=handed)) == (
        f"this database refuses writes since {AT}, to hand over to mysql://b:2, which does not answer, expected to "
        "hear how that ended: start that instance, and it is settled by itself; or, if that one is not the primary, "
        "bin/mariadb-resume --force here",
    )
