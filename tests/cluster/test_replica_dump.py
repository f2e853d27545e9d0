# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica from the newest dump of the list: events stay asleep."""

from tests.cluster.replicas import assert_same_data, offered, replica


def test_it_is_made_of_the_newest_dump(node, either_source):
    newest = [entry for entry in offered(either_source) if entry["kind"] == "logical"][-1]
    with replica(node, "dumped", either_source, "dump") as copy:
        made = copy.bootstrapped()
        assert (made["method"], made["gtid"]) == ("dump", newest["gtid"])
        assert copy.sql("SELECT status FROM information_schema.events") == (("SLAVESIDE_DISABLED",),)
        copy.wait_for_row_of(either_source)
        assert_same_data(copy, either_source)
