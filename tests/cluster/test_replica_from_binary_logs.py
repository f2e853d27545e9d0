# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica without any backup: it begins empty, and everything comes out of the primary's binary logs."""

from tests.cluster.replicas import accounts, assert_same_data, replica


def test_databases_and_users_arrive_by_replication(node, either_source):
    with replica(node, "from-nothing", either_source) as copy:
        made = copy.bootstrapped()
        assert (made["method"], made["gtid"]) == ("logs", "")
        copy.wait_for_row_of(either_source)
        assert_same_data(copy, either_source)
        assert accounts(copy) == accounts(either_source)
        copy.wait_for_row_of(either_source)
