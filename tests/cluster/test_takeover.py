# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary dies under write load while the Master is down: one program makes the replica the primary, for good."""

from tests.cluster.roles import (
    Application,
    act,
    follow_the_promise,
    kill,
    master_stopped,
    pair,
    rejoin,
    role,
    said,
    wait_until_fenced,
)


def test_the_role_stands_when_the_master_is_back_and_all_is_reprocessed(node, tmp_path):
    with pair(node, "takeover") as (old, new), Application(old, new) as application:
        application.wait_for_rows(old)
        where, pid = f"{old.sql('SELECT @@bind_address')[0][0]}:{old.sql('SELECT @@port')[0][0]}", new.pid()
        with master_stopped(node):
            kill(old)
            received = new.slave_status()["Gtid_IO_Pos"]
            sentence = act(new, "replica-become-primary")
            application.wait_for_rows(new)
            assert received in new.sql("SELECT @@gtid_binlog_state")[0][0].split(",")
            assert "old primary" in sentence
            message = said(new)
            assert "this database was taken over at " in message
            assert f"it was a replica of {where} before" in message
            assert "remove the parameter replication, which restarts nothing" in message
        node.process("--all")
        assert (role(new), new.pid()) == ("primary", pid)
        assert "this database was taken over at " in said(new)
        # The old one is started by that; it is fenced as soon as it answers, and comes back as a replica.
        wait_until_fenced(old, new)
        rejoin(old, new, tmp_path)
        old.wait_for_row_of(new)
        application.wait_for_rows(new)
        follow_the_promise(node, new, [old])
        assert new.pid() == pid
