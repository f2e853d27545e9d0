# SPDX-License-Identifier: GPL-2.0-or-later
"""Takeover while the primary lives and can be fenced, between whole partitions; killed at each place on either side."""

import pytest

from tests.service.acting import ended
from tests.service.role_fixtures import Instance, Writer, pair, published, roles
from tests.service.servers import wait_for

__all__ = ["pair", "roles"]

PROGRAM = [
    "before:mariadb.takeover:_fence_primary",
    "after:mariadb.takeover:_fence_primary",
    "after:mariadb.promote:begin",
    "before:mariadb.sql_replication:forget_primary",
    "after:mariadb.sql_replication:forget_primary",
    "after:mariadb.sql_role:set_writable",
]
CONTROL = ["before:mariadb.fence:fence", "before:mariadb.fence:_stop_writes", "after:mariadb.fence:fence"]


def not_both(*instances: Instance) -> None:
    assert sum(writable for _, writable in (one.role() for one in instances)) <= 1


def assert_taken_over(old: Instance, new: Instance, writer: Writer) -> None:
    """The new one alone is writable; the old one, fenced, has nothing that the new one lacks, and comes back."""
    assert new.is_primary() and old.role() == (False, False)
    writer.goes_on(new)
    assert old.state.fenced
    old.acted("rejoin", primary_url=published(new))
    wait_for(lambda: old.follows(new), "the old primary to follow")


def test_it_is_fenced_first_and_comes_back(roles):
    old, new = roles
    with Writer(old, new) as writer:
        said = new.acted("takeover", control_url=old.takeover_url)
        assert said.endswith(f"; the old primary at {old.address} is fenced")
        assert_taken_over(old, new, writer)
    writer.assert_kept(old, new)


@pytest.mark.parametrize("place", PROGRAM)
def test_the_program_is_killed_and_in_turn(roles, place):
    old, new = roles
    with Writer(old, new) as writer:
        assert ended(new.act("takeover", place=place, control_url=old.takeover_url))[0] == -9
        not_both(old, new)
        code, said = new.in_turn("takeover", control_url=old.takeover_url)
        # What was killed behind its point of no return may have been completed by mariadb-control meanwhile.
        assert code == 0 or "is a primary" in said, said
        wait_for(new.is_primary, "the new primary")
        assert_taken_over(old, new, writer)
    writer.assert_kept(old, new)


@pytest.mark.parametrize("place", CONTROL)
def test_the_old_primarys_mariadb_control_is_killed(roles, place):
    old, new = roles
    old.kill_control()
    old.start_control(place)
    with Writer(old, new) as writer:
        code, said = ended(new.act("takeover", control_url=old.takeover_url))
        wait_for(lambda: old.control.poll() is not None, f"the end of mariadb-control; the takeover said {said}")
        assert code == 1 and said.startswith(f"error: the primary at {old.address} answers and could not be fenced ")
        assert new.role() == (True, False)
        old.start_control()
        new.acted("takeover", control_url=old.takeover_url)
        assert_taken_over(old, new, writer)
    writer.assert_kept(old, new)


@pytest.mark.parametrize("place", CONTROL[1:])
def test_the_old_primarys_server_is_killed(roles, place):
    old, new = roles
    old.kill_control()
    old.start_control(place, str(old.pid_file))
    with Writer(old, new) as writer:
        ended(new.act("takeover", control_url=old.takeover_url))
        wait_for(old.answers, "the server, which its supervisor starts again")
        not_both(old, new)
        if not new.is_primary():
            new.acted("takeover", control_url=old.takeover_url)
        assert_taken_over(old, new, writer)
    old.kill_control()
    old.start_control()
    writer.assert_kept(old, new)
