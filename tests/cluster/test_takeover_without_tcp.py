# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica that listens on its socket alone takes over: it opens TCP by itself, with no parameter changed."""

from tests.cluster.node import connect
from tests.cluster.roles import Application, act, follow_the_promise, kill, pair, rejoin, role, wait_until_fenced


def test_it_opens_tcp_by_itself_and_keeps_it(node, tmp_path):
    with pair(node, "silent", allow_tcp_connections_on_replica=False) as (old, new):
        url = new.published["database-list"][0]
        assert new.sql("SELECT @@skip_networking") == ((1,),)
        with Application(old, new) as application:
            application.wait_for_rows(old)
            kill(old)
            act(new, "takeover")
            application.wait_for_rows(new)
        assert new.sql("SELECT @@skip_networking, @@read_only") == ((0, 0),)
        connect(url, ssl_disabled=True).close()
        pid = new.pid()
        node.process("--all")
        assert (role(new), new.pid()) == ("primary", pid)
        wait_until_fenced(old, new)
        rejoin(old, new, tmp_path)
        old.wait_for_row_of(new)
        follow_the_promise(node, new, [old])
