# SPDX-License-Identifier: GPL-2.0-or-later
"""The old primary is destroyed: a new replica of the new primary is made of what that one publishes, and renewed."""

from tests.cluster.node import eventually
from tests.cluster.replicas import replica
from tests.cluster.roles import act, pair, role


def test_the_new_primary_needs_nothing_of_the_old_one(node):
    with pair(node, "gone") as (old, new):
        new.wait_for_row_of(old)
        act(new, "takeover")
        node.destroy(old)
        new.request({key: value for key, value in new.parameters.items() if key != "replication"})
        node.process_only(new)
        new.wait_until_green()
        assert role(new) == "primary"
        with replica(node, "gone-third", new, "live") as third:
            third.wait_for_row_of(new)
            certificate = third.path / "srv/tls/upstream/client.pem"
            before = certificate.read_bytes()
            certificate.unlink()
            eventually(lambda: third.program("mariadb-renew-certificates").returncode == 0, "its certificate anew")
            assert certificate.read_bytes() != before
            third.sql("STOP SLAVE", "START SLAVE")
            third.wait_for_row_of(new)
            for instance in (new, third):
                instance.wait_until_green()
