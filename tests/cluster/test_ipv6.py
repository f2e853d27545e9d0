# SPDX-License-Identifier: GPL-2.0-or-later
"""With use-ipv6 the server and its backups are reachable on IPv6 too, with TLS only."""

import json
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.cluster.node import client_tls, connect, fetch


def on_ipv6(url):
    """The same URL with the partition's IPv6 address."""
    return url.replace("127.0.0.1", "[::1]")


def test_ipv6_is_served_with_tls_only(source_ipv6):
    published, tls = source_ipv6.published, {"ssl": client_tls(source_ipv6)}
    application = published["database-list"][0]
    connect(application).close()
    for url in (on_ipv6(application), published["replication-primary-url"]):
        assert urlsplit(url).hostname == "::1"
        with pytest.raises(pymysql.err.OperationalError, match="1045"):
            connect(url, ssl_disabled=True)
        connect(url, **tls).close()
    backups = published["replication-bootstrap-url"]
    assert urlsplit(backups).hostname == "::1"
    assert json.loads(fetch(source_ipv6, backups)[1])["format"] == 1
