# SPDX-License-Identifier: GPL-2.0-or-later
"""An old primary that lives is fenced by the takeover, loses nothing, and comes back as a replica."""

from tests.cluster.roles import Application, act, follow_the_promise, pair, refused, role, said, url_file


def test_a_clean_one_comes_back(node, tmp_path):
    with pair(node, "rejoin") as (old, new):
        pid = old.pid()
        with Application(old, new) as application:
            application.wait_for_rows(old)
            act(new, "takeover")
            application.wait_for_rows(new)
        assert application.missing(new) == set()
        assert (role(old), role(new)) == ("fenced", "primary")
        assert "this database is fenced and refuses writes since " in said(old)
        assert "nobody has said who the primary is now" in refused(old, "rejoin")
        act(old, "rejoin", "--primary-url-file", url_file(tmp_path, new, "replication-primary-url"))
        assert role(old) == "replica"
        old.wait_for_row_of(new)
        assert (application.missing(old), old.pid()) == (set(), pid)
        follow_the_promise(node, new, [old])
