# SPDX-License-Identifier: GPL-2.0-or-later
"""With use-ipv6 the server and its backups are reachable on IPv6 too, but no account can log in there without TLS."""

import json
import urllib.request
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.cluster.node import connect


def on_ipv6(url):
    """The same URL with the partition's IPv6 address."""
    return url.replace("127.0.0.1", "[::1]")


def test_ipv6_is_served_and_asks_for_tls(node):
    instance = node.instance("both-families")
    instance.request({"use-ipv6": True})
    node.process()
    try:
        instance.wait_until_green()
        published = instance.published
        connect(published["database-list"][0]).close()
        for url in (published["database-list"][0], published["replication-primary-url"]):
            with pytest.raises(pymysql.err.OperationalError, match="1045"):
                connect(on_ipv6(url))
        backups = on_ipv6(published["replication-bootstrap-url"])
        assert urlsplit(backups).hostname == "::1"
        with urllib.request.urlopen(backups) as response:
            assert json.load(response)["format"] == 1
    finally:
        node.destroy(instance)
