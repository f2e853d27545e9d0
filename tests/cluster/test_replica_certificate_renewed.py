# SPDX-License-Identifier: GPL-2.0-or-later
"""New certificates of both sides are used while both servers run, without a restart."""

import ssl
from urllib.parse import urlsplit

from tests.cluster.node import eventually
from tests.cluster.replicas import renew


def shown_by_nginx(instance):
    """The certificate that nginx shows now."""
    url = urlsplit(instance.published["replication-bootstrap-url"])
    return ssl.get_server_certificate((url.hostname, url.port))


def test_new_ones_are_used_without_a_restart(source, two_replicas):
    copy, _ = two_replicas
    pids, before = (source.pid(), copy.pid()), shown_by_nginx(source)
    for path in (source.path / "srv/tls/server.pem", copy.path / "srv/tls/upstream/client.pem"):
        path.unlink()
    eventually(lambda: renew(source) and renew(copy), "a renewal that nobody else is at")
    eventually(lambda: shown_by_nginx(source) != before, "nginx shows the new certificate")
    copy.sql("STOP SLAVE", "START SLAVE")
    copy.wait_for_row_of(source)
    for instance in (source, copy):
        instance.wait_until_green()
    assert (source.pid(), copy.pid()) == pids
