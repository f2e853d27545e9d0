# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against a switchover, decided from what both sides say."""

import dataclasses

import pytest

from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import demote, gtid, switchover
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.demote import Comparison
from slapos.recipe.erp5.mariadb.preflight import Snapshot
from slapos.recipe.erp5.mariadb.replication_status import Own
from slapos.recipe.erp5.mariadb.role_state import RoleState
from slapos.recipe.erp5.mariadb.sql_replication import Facts, Source, Thread
from slapos.recipe.erp5.mariadb.switchover import Primary
from tests.unit.tls.made import NOW

THERE, OWN_URL = "192.0.2.1:20001", "mysql://192.0.2.2:20002"
NEW_PRIMARY = urls.parse("mysql://user:word@192.0.2.2:20002")
RUNS = Thread("Yes", 0, "")
FACTS = Facts("10.11", 2, 0, "0-1-10", "0-1-10", "0-1-10", strict=True, read_only=True, encrypted=False)
ABOUT = {
    "role": "primary",
    "addresses": [THERE],
    "binlog-state": "0-1-12",
    "fenced": "",
    "hand-over": "",
    "writer": "",
    "writer-seconds": 0,
}


class Status:
    """As much of a ReplicationStatus as is looked at."""

    def __init__(self, own) -> None:
        self.own, self.error = own, "it is down"


def source(**changes) -> Source:
    found = Source("", "192.0.2.1", 20001, "u", RUNS, RUNS, 0, True, True, "Slave_Pos", "0-1-12")
    return dataclasses.replace(found, **changes)


def decided(about=None, error="", url="https://h:1/#" + "a" * 32, facts=FACTS, own=True, **changes):
    found = Own(facts, (source(**changes),), frozenset()) if own else None
    snapshot = Snapshot(NOW, Status(found), RoleState(), url)  # type: ignore[arg-type]
    return switchover.decide(snapshot, Primary({**ABOUT, **(about or {})}, error), OWN_URL)


def refusals(*arguments, **options) -> list[str]:
    return list(decided(*arguments, **options).sentences("refuse"))


def test_nothing_speaks_against_two_that_are_well():
    assert decided().reasons == ()


def test_without_the_primarys_token_it_says_what_to_give():
    assert refusals(url="") == [
        f"the primary {THERE} has to stop writing, which needs its own token: give the takeover-url that it publishes"
        " (option control-url, or the parameter replication.control-url)"
    ]


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (
            {"addresses": ["192.0.2.9:1"]},
            f"the control URL is that of 192.0.2.9:1, expected that of {THERE}, which this replica follows: give the"
            " takeover-url of that one",
        ),
        ({"role": "replica"}, f"{THERE} is a replica itself: switch over with its primary first"),
        ({"fenced": "by hand"}, f"{THERE} is fenced (by hand): resume it first, or take over"),
        (
            {"binlog-state": "0-1-9"},
            f"this replica has 0-1-10, which {THERE} does not have and could not follow: make this replica anew",
        ),
        (
            {"writer": "connection 7 of u, for 11 s in a transaction", "writer-seconds": 11},
            f"connection 7 of u, for 11 s in a transaction on {THERE} would be cut short: wait for its end",
        ),
    ],
)
def test_what_the_primary_says(about, sentence):
    assert refusals(about) == [sentence]


def test_a_fence_of_our_own_hand_over_is_none():
    assert refusals({"fenced": "hand-over", "hand-over": OWN_URL}) == []


def test_what_is_wrong_here_comes_first():
    assert refusals(own=False) == ["this database does not answer (it is down): start it"]
    assert refusals(error="x", sql=Thread("No", 1062, "Duplicate entry")) == [
        f"replication from {THERE} does not run (Duplicate entry (1062)), expected both threads to: mend that, or take"
        " over"
    ]
    assert refusals(error="it is silent") == ["the primary cannot be asked: it is silent"]


def test_lag_is_waited_for_and_a_short_transaction_is_mentioned():
    assert decided(lag=40).sentences("warn") == ("the lag is 40 s: writes go on until it is near 0",)
    found = decided({"writer": "connection 7 of u, for 1 s in a transaction", "writer-seconds": 1})
    assert found.sentences("info") == (
        f"connection 7 of u, for 1 s in a transaction on {THERE} is ended when it does not end by itself",
    )


def facts(state: str) -> Facts:
    return dataclasses.replace(FACTS, binlog_state=state)


@pytest.mark.parametrize(
    ("ours", "theirs", "only_here", "common", "count"),
    [
        ("0-1-10", "0-1-10,0-2-15", "", "0-1-10", 0),
        ("0-1-12", "0-1-10,0-2-15", "0-1-12", "0-1-10", 2),
        ("0-2-20,0-1-25", "0-2-20,0-3-22", "0-1-25", "0-2-20", 5),
        ("0-1-12,3-1-4", "0-1-12", "3-1-4", "0-1-12", 4),
        ("0-1-50,0-2-100", "0-2-100,0-3-101", "", "0-2-100", 0),
        ("0-1-50,0-2-103", "0-2-100,0-3-101", "0-2-103", "0-2-100", 3),
    ],
)
def test_where_two_histories_parted(ours, theirs, only_here, common, count):
    parted = gtid.only_in(gtid.parse(ours), gtid.parse(theirs))
    found = Comparison(facts(ours), facts(theirs), parted)
    assert (gtid.text(parted), gtid.text(found.common), found.count) == (only_here, common, count)


def test_a_replica_that_knows_more_history_than_a_primary_from_a_backup_may_be_promoted():
    found = facts("0-1-50,0-2-100")
    assert refusals({"binlog-state": "0-2-100,0-3-101"}, facts=found) == []
    assert refusals({"binlog-state": "0-2-90,0-3-101"}, facts=found) == [
        f"this replica has 0-2-100, which {THERE} does not have and could not follow: make this replica anew"
    ]


# ---- the old primary, asked before anything is fenced


def test_a_replica_from_a_backup_that_lags_may_become_the_primary():
    demote.require_replica(NEW_PRIMARY, facts("0-1-50,0-2-100"), facts("0-2-90"))


def test_an_old_primary_that_could_not_follow_says_so_before_it_is_fenced():
    theirs = dataclasses.replace(facts("0-3-101"), binlog_pos="0-3-101")
    with pytest.raises(Refused) as raised:
        demote.require_replica(NEW_PRIMARY, facts("0-2-100"), theirs)
    assert str(raised.value) == (
        "this primary has GTID 0-2-100, which 192.0.2.2:20002, at GTID 0-3-101, lacks and will not receive, so this one"
        " could not follow it, expected none: make that replica anew"
    )
