# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica publishes passwords that it was given, or its primary's, and makes up none."""

from tests.cluster.replicas import APPLICATION, replica


def test_its_own_passwords_are_not_made_up(node, source):
    with replica(node, "live", source, "live", more={"database-list": [{"name": "erp5", "user": "erp5"}]}) as copy:
        assert copy.published["database-list"] == []
        upstream = source.published["replication-primary-url"].split("@")[0]
        assert copy.published["replication-primary-url"].split("@")[0] == upstream
        copy.request(copy.parameters | {"database-list": [APPLICATION]})
        node.process_only(copy)
        copy.wait_until_green()
        assert len(copy.published["database-list"]) == 1
        copy.wait_for_row_of(source)
