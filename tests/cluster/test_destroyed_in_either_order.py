# SPDX-License-Identifier: GPL-2.0-or-later
"""The replica is destroyed first, and a new one made; then the primary, and what the replica has is served on."""

from tests.cluster.node import eventually
from tests.cluster.replicas import replica
from tests.cluster.roles import act, pair, role


def test_whoever_is_left_goes_on(node):
    with pair(node, "either") as (primary, copy):
        copy.wait_for_row_of(primary)
        node.destroy(copy)
        node.process()
        primary.wait_until_green()
        assert role(primary) == "primary"
        with replica(node, "either-third", primary, "live") as third:
            third.wait_for_row_of(primary)
            rows = third.sql("SELECT * FROM travel.message")
            node.destroy(primary)
            eventually(lambda: third.promises()["mariadb-replication"][0], "the promise that misses the primary")
            assert third.sql("SELECT * FROM travel.message") == rows
            act(third, "takeover")
            assert role(third) == "primary"
            with replica(node, "either-fourth", third, "live") as fourth:
                fourth.wait_for_row_of(third)
