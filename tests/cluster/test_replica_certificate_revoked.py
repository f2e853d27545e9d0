# SPDX-License-Identifier: GPL-2.0-or-later
"""A revoked certificate lets nobody in, at once and without a restart; its replica gets itself another one."""

import pymysql
import pytest

from tests.cluster.node import client_tls, connect, eventually
from tests.cluster.replicas import renew


def test_a_revoked_one_is_out_at_once_and_its_replica_gets_another(source, two_replicas, tmp_path):
    _, copy = two_replicas
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
