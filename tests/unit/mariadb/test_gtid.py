# SPDX-License-Identifier: GPL-2.0-or-later
"""Positions, and what one server has that another lacks."""

import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import gtid
from slapos.recipe.erp5.mariadb.gtid import Gtid, parse


def test_a_list_is_read_and_written():
    assert parse("0-1-27,3-2-5") == (Gtid(0, 1, 27), Gtid(3, 2, 5))
    assert parse("3-2-5, 0-1-27\n") == parse("0-1-27,3-2-5")
    assert parse("") == parse(" ") == ()
    assert gtid.text(parse("3-2-5,0-1-27")) == "0-1-27,3-2-5"


@pytest.mark.parametrize("text", ["x", "0-1", "0-1-2-3", "0-1-2,", "-1-1-1", "0-1-1;DROP"])
def test_what_is_no_gtid_is_refused(text):
    with pytest.raises(ServerError, match="is no GTID, expected domain-server-sequence such as 0-1-27$"):
        parse(text)


def test_the_position_is_the_highest_of_each_domain():
    assert gtid.position(parse("0-1-27,0-2-30,3-2-5")) == {0: 30, 3: 5}


def test_the_last_one_of_each_domain():
    assert gtid.text(gtid.furthest(parse("0-1-27,0-2-30,3-2-5,3-9-4"))) == "0-2-30,3-2-5"


@pytest.mark.parametrize(
    "ours, theirs, ahead",
    [
        ("", "", False),
        ("", "0-1-5", False),
        ("0-1-5", "0-1-5", False),
        ("0-1-5", "0-2-9", False),
        ("0-1-6", "0-1-5", True),
        ("0-1-5,1-1-1", "0-1-9", True),
        ("0-1-5", "", True),
    ],
)
def test_who_is_ahead(ours, theirs, ahead):
    assert gtid.is_ahead(parse(ours), parse(theirs)) is ahead
    assert gtid.contains(parse(theirs), parse(ours)) is not ahead


def test_a_transaction_of_another_server_is_missing_though_its_sequence_is_lower():
    assert gtid.missing(parse("0-1-5,0-9-3"), parse("0-1-100")) == (Gtid(0, 9, 3),)
    assert gtid.missing(parse("0-1-5"), parse("0-1-5,0-2-9")) == ()
    assert gtid.missing((*parse("0-1-6"), *parse("0-1-6")), parse("0-1-5")) == (Gtid(0, 1, 6),)


def test_what_a_replica_did_by_itself_is_told_from_what_was_known_when_it_was_made():
    state = parse("0-1-50,0-7-12")
    assert gtid.errant(state, 7, ()) == (Gtid(0, 7, 12),)
    assert gtid.errant(state, 7, parse("0-7-11")) == (Gtid(0, 7, 12),)
    assert gtid.errant(state, 7, parse("0-7-12")) == ()
    assert gtid.errant(state, 8, ()) == ()


@pytest.mark.parametrize(
    "ours, theirs, common, only_here",
    [
        # The other one was made from a backup of ours, which begins with one GTID, and was promoted.
        ("0-1-50,0-2-100", "0-2-100,0-3-101", "0-2-100", ""),
        # The same before it has written, and while it is ahead of what we have of the same server.
        ("0-1-50,0-2-100", "0-2-100", "0-2-100", ""),
        ("0-1-50,0-2-100", "0-2-120,0-3-130", "0-2-100", ""),
        # It was made later than ours had its last one: nothing tells whether it has it.
        ("0-1-50", "0-2-100,0-3-101", "", "0-1-50"),
        # Both wrote after they parted, once and after earlier changes of roles.
        ("0-1-12", "0-1-10,0-2-15", "0-1-10", "0-1-12"),
        ("0-1-50,0-2-103", "0-2-100,0-3-109", "0-2-100", "0-2-103"),
        ("0-1-50,0-2-100,0-4-101", "0-2-100,0-3-101", "0-2-100", "0-4-101"),
        # A lower sequence than theirs, and higher than the last one in common.
        ("0-2-100,0-4-101", "0-2-100,0-3-900", "0-2-100", "0-4-101"),
        # One GTID per domain on both sides.
        ("0-2-100", "0-3-100", "", "0-2-100"),
        ("0-2-101", "0-2-100", "0-2-100", "0-2-101"),
        ("0-2-100", "", "", "0-2-100"),
        ("", "0-2-100", "", ""),
        # Each domain by itself: what is common in one says nothing of another.
        ("0-1-50,0-2-100,3-1-7", "0-2-100,0-3-101,3-1-7", "0-2-100,3-1-7", ""),
        ("0-1-50,0-2-100,3-1-7", "0-2-100,0-3-101,3-3-9", "0-2-100", "3-1-7"),
        ("0-1-50,0-2-100,3-1-7", "0-2-100,0-3-101", "0-2-100", "3-1-7"),
        ("0-1-50,0-2-100,3-1-4,3-2-7", "0-2-90,3-2-7,3-3-8", "0-2-90,3-2-7", "0-2-100"),
    ],
)
def test_only_what_came_after_the_last_common_one_has_parted(ours, theirs, common, only_here):
    assert gtid.text(gtid.common(parse(ours), parse(theirs))) == common
    assert gtid.text(gtid.common(parse(theirs), parse(ours))) == common
    assert gtid.text(gtid.only_in(parse(ours), parse(theirs))) == only_here


@pytest.mark.parametrize(
    "replica, primary, lacking",
    [
        ("0-2-100", "0-1-50,0-2-100", ""),
        ("0-2-90", "0-1-50,0-2-100", ""),  # it lags
        ("0-2-100", "0-1-50,0-2-100,5-2-1", ""),  # in a domain that is new
        ("0-1-50", "0-1-50,0-2-51", ""),  # nothing of this primary yet
        ("0-3-101", "0-1-50,0-2-100", "0-1-50,0-2-100"),
        ("0-1-50,0-3-101", "0-1-50,0-2-100", "0-2-100"),
        ("0-2-100,5-3-9", "0-2-110,5-2-8", "5-2-8"),
    ],
)
def test_what_a_replica_that_lags_will_never_have(replica, primary, lacking):
    assert gtid.text(gtid.never_reaches(parse(replica), parse(primary))) == lacking


@pytest.mark.parametrize(
    ("primary", "applied", "count"),
    [("0-1-10", "0-1-7", 3), ("0-1-10,1-1-4", "0-1-10", 4), ("0-1-10", "0-2-11", 0), ("", "", 0)],
)
def test_how_many_transactions_are_missing(primary, applied, count):
    assert gtid.count(gtid.parse(primary), gtid.parse(applied)) == count
