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
