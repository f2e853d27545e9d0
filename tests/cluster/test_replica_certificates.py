# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates that are replaced or revoked while both servers run: no restart, and nobody in with a revoked one."""

import ssl
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.cluster.node import client_tls, connect, eventually
from tests.cluster.replicas import replica


def shown_by_nginx(instance):
    """The certificate that nginx shows now."""
    url = urlsplit(instance.published["replication-bootstrap-url"])
    return ssl.get_server_certificate((url.hostname, url.port))


def renew(instance):
    done = instance.program("mariadb-renew-certificates")
    assert done.returncode in (0, 75), done.stdout
    return done.returncode == 0


def test_new_ones_are_used_without_a_restart(node, source):
    with replica(node, "renewed", source, "live") as copy:
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


def test_a_revoked_one_is_out_at_once_and_its_replica_gets_another(node, source, tmp_path):
    with replica(node, "revoked", source, "live") as copy:
        pids = (source.pid(), copy.pid())
        certificate = copy.path / "srv/tls/upstream/client.pem"
        old = certificate.read_text()

        def revoked():
            done = source.program("mariadb-revoke-certificate", str(certificate))
            assert done.returncode in (0, 75), done.stdout
            return done.returncode == 0

        eventually(revoked, "the revocation")
        eventually(lambda: copy.slave_status()["Slave_IO_Running"] != "Yes", "the replica is out")
        stolen = tmp_path / "stolen.pem"
        stolen.write_text(old)
        with pytest.raises(pymysql.err.OperationalError):
            connect(source.published["replication-primary-url"], ssl=client_tls(source, stolen))
        connect(source.published["replication-primary-url"], ssl=client_tls(source)).close()
        assert copy.promises()["mariadb-replication"][0]
        eventually(lambda: renew(copy), "the replica's renewal")
        assert certificate.read_text() != old
        copy.wait_for_row_of(source)
        copy.wait_until_green()
        assert (source.pid(), copy.pid()) == pids
