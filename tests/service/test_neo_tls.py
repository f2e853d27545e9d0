# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO's own TLS, one authority for a cluster and its backup: nobody without a certificate of it gets in."""

import signal
from pathlib import Path

import pytest

from tests.service.authority import Authority
from tests.service.neo_fixtures import Cluster, Clusters, follow
from tests.service.servers import wait_for


def certificate(folder: Path, authority: Authority, name: str = "node") -> tuple[Path, Path, Path]:
    """The files of CA, certificate and key: the latter two are one, and the first has the revocation list too."""
    ca, pem = folder / f"{name}-ca.pem", folder / f"{name}.pem"
    ca.write_text(authority.ca())
    pem.write_text(authority.issue_for_both_ends(name))
    return ca, pem, pem


@pytest.fixture
def secured(clusters: Clusters, partition: Path) -> tuple[Cluster, Cluster, Authority]:
    authority = Authority()
    return *follow(clusters, tls=certificate(partition, authority), masters=2, storages=2), authority


def test_a_backup_follows_and_takes_over(secured: tuple[Cluster, Cluster, Authority]):
    main, copy, _ = secured
    (written,) = main.write(more=1)
    copy.wait_for_tid(written)
    with copy.asker() as asker:
        found = asker.tids_from(copy.of("master"), 1, 10)
        assert found == asker.tids_from(main.of("master"), 1, 10, cluster="main") and written in found
        main.kill()
        copy.wait("STARTING_BACKUP")
        asker.set_state("STOPPING_BACKUP")
    copy.wait("RUNNING")
    assert copy.read() == {"before": "kept", "more": 1}
    copy.write(own=1)


def test_without_a_certificate_nobody_is_answered(secured: tuple[Cluster, Cluster, Authority], partition: Path):
    main, copy, authority = secured
    tls, own = copy.tls, certificate(partition, Authority(), "foreign")
    stranger = certificate(partition, authority, "stranger")
    for strange in ((), own, (tls[0], *own[1:]), (own[0], *tls[1:])):
        copy.tls = strange
        with copy.asker(timeout=3) as asker:
            assert asker.status().cluster_state == ""
    copy.tls = stranger
    assert copy.read() == {"before": "kept"}
    copy.tls = tls
    assert copy.status().cluster_state == "BACKINGUP"
    main.check()
    copy.check()


def test_a_backup_with_another_authority_waits_and_gets_nothing(clusters: Clusters, partition: Path):
    main, copy = clusters.backup(tls=certificate(partition, Authority()))
    copy.tls = certificate(partition, Authority(), "foreign")
    copy.start()
    copy.wait("STARTING_BACKUP")
    wait_for(lambda: "certificate verify failed" in flushed_log(copy), "a refusal in the log")
    assert copy.status().backup_tid == 0
    main.check()


def flushed_log(cluster: Cluster) -> str:
    """A node keeps what is no warning until it is told to write it."""
    cluster.processes["master-0"].send_signal(signal.SIGRTMIN)
    return cluster.log("master-0")


def test_a_revoked_node_is_refused_once_the_others_have_the_list(clusters: Clusters, partition: Path):
    """The list lies in the file of the CA, and is read at a node's start."""
    authority = Authority()
    cluster = clusters("main", tls=certificate(partition, authority))
    revoked = certificate(partition, authority, "revoked")
    authority.revoke(revoked[1].read_text())
    cluster.tls[0].write_text(authority.ca() + authority.crl())
    cluster.start()
    cluster.wait("RUNNING")
    tls = cluster.tls
    cluster.tls = revoked
    with cluster.asker(timeout=3) as asker:
        assert asker.status().cluster_state == ""
    cluster.tls = tls
    assert cluster.status().cluster_state == "RUNNING"
