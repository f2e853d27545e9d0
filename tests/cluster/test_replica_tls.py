# SPDX-License-Identifier: GPL-2.0-or-later
"""What passes between primary and replica cannot be read on the wire, unless TLS was turned off on purpose."""

from tests.cluster.replicas import Tap, make_source, replica

SECRET = "not for everybody"


def travel(source, copy):
    source.sql(f"CREATE TABLE erp5.{copy.name.replace('-', '_')} AS SELECT '{SECRET}' AS t")
    copy.wait_for_row_of(source)


def test_with_tls_nothing_is_to_be_read(node, source):
    with Tap(source) as tap, replica(node, "encrypted", source, "live", primary_url=tap.url) as copy:
        travel(source, copy)
        assert len(tap.seen) > 5000
        assert SECRET.encode() not in tap.seen


def test_on_a_private_ipv4_it_can_be_turned_off(node):
    source = make_source(node, "open-source", **{"replicas-use-tls": False})
    try:
        assert source.published["replication-bootstrap-url"].startswith("http://")
        with (
            Tap(source) as tap,
            replica(node, "open", source, "live", primary_url=tap.url, replicate_with_tls=False) as copy,
        ):
            assert copy.bootstrapped()["method"] == "live"
            travel(source, copy)
            assert copy.slave_status()["Master_SSL_Allowed"] == "No"
            assert SECRET.encode() in tap.seen
    finally:
        node.destroy(source)
