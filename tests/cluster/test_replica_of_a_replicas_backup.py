# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica's own backup makes another replica, which follows that one."""

from tests.cluster.replicas import assert_same_data, follows, offered, replica


def test_a_dump_of_a_replica_makes_another_one(node, source, two_replicas):
    middle, _ = two_replicas
    middle.backup()
    newest = [entry for entry in offered(middle) if entry["kind"] == "logical"][-1]
    with replica(node, "another", middle, "dump") as last:
        made = last.bootstrapped()
        assert (made["method"], made["gtid"]) == ("dump", newest["gtid"])
        assert follows(last, middle)
        last.wait_for_row_of(source)
        assert_same_data(last, source)
