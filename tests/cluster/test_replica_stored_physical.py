# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica from stored physical backups: the full one, the incrementals on it, and the binary logs since then."""

from tests.cluster.replicas import assert_same_data, offered, replica


def test_it_is_made_of_the_whole_chain(node, either_source):
    newest = [entry for entry in offered(either_source) if entry["kind"] == "physical-incremental"][-1]
    either_source.sql("UPDATE erp5.catalog SET data = RANDOM_BYTES(400) WHERE uid % 3 = 0")
    with replica(node, "stored", either_source, "physical") as copy:
        made = copy.bootstrapped()
        assert (made["method"], made["gtid"]) == ("physical", newest["gtid"])
        copy.wait_for_row_of(either_source)
        assert_same_data(copy, either_source)
