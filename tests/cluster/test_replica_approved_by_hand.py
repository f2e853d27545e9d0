# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica whose certificate a person approves: it publishes a request, the primary gets it as a parameter."""

from tests.cluster.node import eventually
from tests.cluster.replicas import make_source, wait_until_made


def test_it_waits_until_its_request_is_approved(node):
    source = make_source(node, "careful")
    copy = node.instance("patient")
    try:
        url = source.published["replication-primary-url"].split("?")[0]
        copy.request(copy.replica_of(source, "live", primary_url=url, caucased_url=source.published["caucased-url"]))
        node.process()
        asked = copy.published["caucased-csr-to-sign"]
        assert asked.startswith("-----BEGIN CERTIFICATE REQUEST-----")
        _, message = eventually(
            lambda: (lambda result: result if "approval" in result[1] else None)(
                copy.promises()["mariadb-replication"]
            ),
            "the promise says what it waits for",
        )
        assert "caucased.csr-to-sign of the primary" in message
        source.request(source.parameters | {"caucased": {"csr-to-sign": [asked]}})
        node.process()
        source.program("mariadb-renew-certificates")
        wait_until_made(copy)
        copy.wait_for_row_of(source)
        node.process("--all")
        assert copy.published["caucased-csr-to-sign"] == ""
    finally:
        node.destroy(copy)
        node.destroy(source)
