# SPDX-License-Identifier: GPL-2.0-or-later
"""After a takeover a second replica follows the new primary, and joins its authority."""

from tests.cluster.replicas import replica
from tests.cluster.roles import Application, act, follow_the_promise, pair, refused, role, url_file


def test_a_second_replica_follows_the_new_primary(node, tmp_path):
    with pair(node, "follow") as (old, new), replica(node, "follow-third", old) as third:
        pid = third.pid()
        with Application(old, new) as application:
            application.wait_for_rows(old)
            act(new, "takeover")
            application.wait_for_rows(new)
        assert "expected the replication-primary-url that the new primary publishes" in refused(third, "follow")
        where = url_file(tmp_path, new, "replication-primary-url")
        act(third, "follow", "--primary-url-file", where)
        third.wait_for_row_of(new)
        assert (role(third), third.pid(), application.missing(third)) == ("replica", pid, set())
        assert third.slave_status()["Master_Port"] == new.sql("SELECT @@port")[0][0]
        act(old, "rejoin", "--primary-url-file", where)
        follow_the_promise(node, new, [old, third])
