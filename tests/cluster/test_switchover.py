# SPDX-License-Identifier: GPL-2.0-or-later
"""Both exchange their roles under write load, and back: no row is lost, no server restarts."""

from tests.cluster.roles import Application, act, follow_the_promise, pair, role, said


def test_there_and_back_under_load(node):
    with pair(node, "switch") as (first, second):
        pids = (first.pid(), second.pid())
        with Application(first, second) as application:
            application.wait_for_rows(first)
            act(second, "switchover")
            application.wait_for_rows(second)
            assert (role(first), role(second)) == ("replica", "primary")
            assert "this database exchanged its role with " in said(second)
            assert "set replication.primary-url to the replication-primary-url of " in said(first)
            follow_the_promise(node, second, [first])
            act(first, "switchover")  # the token is the parameter's, which names this primary now
            application.wait_for_rows(first)
            assert (role(first), role(second)) == ("primary", "replica")
            follow_the_promise(node, first, [second])
        second.wait_for_row_of(first)
        assert (application.missing(first), application.missing(second)) == (set(), set())
        assert (first.pid(), second.pid()) == pids
