# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica stops following for good, its primary not being touched: the first step of a clone."""

from tests.cluster.replicas import replica
from tests.cluster.roles import Application, act, pair, refused, role, said


def test_both_are_primaries_and_neither_knows_the_other(node):
    with pair(node, "detach") as (primary, clone):
        clone.wait_for_row_of(primary)
        with Application(primary) as application:
            application.wait_for_rows(primary)
            act(clone, "detach")
            application.wait_for_rows(primary)
        assert (role(primary), role(clone)) == ("primary", "primary")
        assert application.missing(primary) == set() != application.missing(clone)
        primary.wait_until_green()
        assert "this database was detached at " in said(clone)
        assert "expected a replica" in refused(clone, "switchover")
        pid = clone.pid()
        clone.request({key: value for key, value in clone.parameters.items() if key != "replication"})
        node.process_only(clone)
        clone.wait_until_green()
        assert clone.pid() == pid
        with replica(node, "detach-third", clone, "live") as copy:
            copy.wait_for_row_of(clone)
            assert application.missing(copy) == application.missing(clone)
