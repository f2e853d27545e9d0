# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about published URLs that work, that do not, and that cannot be tried."""

import pytest

from slapos.recipe.erp5.mariadb.accounts import Login, decide
from slapos.recipe.erp5.verdict import Verdict

DENIED = "Access denied for user 'b'@'127.0.0.1' (using password: YES) (1045)"


def test_all_work():
    expected = Verdict(True, ("each of the 2 published databases accepts its user",))
    assert decide((Login("one", "a"), Login("two", "b"))) == expected


def test_a_password_that_was_changed_in_sql():
    assert decide((Login("one", "a"), Login("two", "b", DENIED))) == Verdict(
        False,
        (
            f"b cannot use two as database-list has it published ({DENIED}), expected that URL to work: what was "
            "changed in SQL stays as it is, so give the present password in database-list, or take the entry out of it",
        ),
    )


@pytest.mark.parametrize("code", [2002, 2003, 2006, 2013, 1040])
def test_a_server_that_is_not_there_is_not_this_promise_s_matter(code):
    verdict = decide((Login("one", "a", f"Can't connect ({code})"),))
    assert verdict == Verdict(True, ("the published URLs cannot be tried while the server does not answer",))


def test_no_database_is_published():
    assert decide(()).good
