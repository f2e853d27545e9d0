# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fence stays when there are two reasons, and for whom this database may be fenced at all."""

import pytest

from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import fence, peer_actions
from slapos.recipe.erp5.mariadb.role_state import Fence, HandOver, RoleState

AT, LATER = "2026-11-22T01:00:00Z", "2026-11-22T02:00:00Z"
BY_PEOPLE = Fence("program", "the action fence", AT)
FOR_B = Fence("its replica", "takeover", AT, "mysql://b:2")
HANDED_TO_B = Fence("the switchover to b:2", "hand-over", AT, "mysql://b:2", "one")


@pytest.mark.parametrize(
    ("before", "wanted", "expected"),
    [
        (None, FOR_B, FOR_B),
        (FOR_B, Fence("its replica", "takeover again", LATER, "mysql://b:2"), FOR_B),
        # A hand-over takes only its own away: these are not that one's any more.
        (HANDED_TO_B, FOR_B, FOR_B),
        (HANDED_TO_B, BY_PEOPLE, Fence("program", "the action fence", AT, "mysql://b:2")),
        # Who is to be the primary is known still.
        (FOR_B, BY_PEOPLE, FOR_B),
        (BY_PEOPLE, FOR_B, FOR_B),
    ],
)
def test_which_fence_there_is_afterwards(before, wanted, expected):
    assert fence.after(before, wanted) == expected


@pytest.mark.parametrize(
    "state",
    [
        RoleState(FOR_B),
        RoleState(HANDED_TO_B, hand_over=HandOver("secret", "https://b:3", "mysql://b:2", "0-1-5", AT)),
        RoleState(hand_over=HandOver("secret", "https://b:3", "mysql://b:2", "", AT)),
    ],
)
def test_a_database_that_made_way_for_one_makes_way_for_no_other(state):
    with pytest.raises(Refused) as raised:
        peer_actions.require_no_other(state, "mysql://c:3")
    assert str(raised.value) == (
        f"this database refuses writes since {AT} for mysql://b:2 to be the primary, expected it to be for no other"
        " than mysql://c:3: look there, and follow it if it is"
    )
    peer_actions.require_no_other(state, "mysql://b:2")


def test_a_database_that_people_have_fenced_may_be_fenced_for_anybody():
    peer_actions.require_no_other(RoleState(BY_PEOPLE), "mysql://c:3")
    peer_actions.require_no_other(RoleState(), "mysql://c:3")
