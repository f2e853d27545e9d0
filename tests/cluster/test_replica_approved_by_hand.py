# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica whose certificate a person approves: it publishes a request, the primary gets it as a parameter."""

from tests.cluster.node import eventually
from tests.cluster.replicas import make_source, wait_until_made
from tests.cluster.test_promises import assert_left_alone


def said(copy):
    return copy.promises()["mariadb-replication"][1]


def test_it_waits_until_its_request_is_approved(node):
    source = make_source(node, "careful")
    copy = node.instance("patient")
    try:
        url = source.published["replication-primary-url"].split("?")[0]
        copy.request(copy.replica_of(source, "live", primary_url=url, caucased_url=source.published["caucased-url"]))
        node.process_only(copy)
        asked = copy.published["caucased-csr-to-sign"]
        assert asked.startswith("-----BEGIN CERTIFICATE REQUEST-----")
        eventually(lambda: "add our caucased-csr-to-sign to" in said(copy), "the promise says what it waits for")
        (installing,) = (
            process.pid for process in copy.processes() if "mariadb-install" in " ".join(process.cmdline())
        )
        assert_left_alone(node, copy, lambda: "add our caucased-csr-to-sign to" in said(copy))
        assert installing in [process.pid for process in copy.processes()], "processing does not disturb it"
        source.request(source.parameters | {"caucased": {"csr-to-sign": [asked]}})
        node.process_only(source)
        source.program("mariadb-renew-certificates")
        wait_until_made(copy)
        copy.wait_for_row_of(source)
        node.process("--all")
        assert copy.published["caucased-csr-to-sign"] == ""
    finally:
        node.destroy(copy)
        node.destroy(source)
