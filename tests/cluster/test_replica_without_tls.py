# SPDX-License-Identifier: GPL-2.0-or-later
"""On a private IPv4 both sides can turn TLS off, and then all that passes can be read."""

from tests.cluster.replicas import Tap, carry_secret, make_source, replica


def test_on_a_private_ipv4_it_can_be_turned_off(node):
    source = make_source(node, "open-source", **{"replicas-use-tls": False})
    try:
        assert source.published["replication-bootstrap-url"].startswith("http://")
        with (
            Tap(source) as tap,
            replica(node, "open", source, "live", primary_url=tap.url, replicate_with_tls=False) as copy,
        ):
            assert copy.bootstrapped()["method"] == "live"
            secret = carry_secret(source, copy)
            assert copy.slave_status()["Master_SSL_Allowed"] == "No"
            assert secret in tap.seen
    finally:
        node.destroy(source)
