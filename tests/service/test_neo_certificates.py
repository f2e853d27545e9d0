# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS between real clusters of NEO: who gets in, what a renewal and a dead upstream change, by which authorities."""

import dataclasses
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from caucase.client import CaucaseClient

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.tls import certificates, files, own, revoke, status, trusted, verdict
from slapos.recipe.erp5.tls.files import Files
from tests.service.neo_tls_fixtures import Site, Sites, another_node
from tests.service.servers import wait_for


@pytest.fixture
def sites(partition: Path) -> Iterator[Sites]:
    made = Sites(partition)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def main(sites: Sites) -> Site:
    """A running cluster."""
    return sites.running("main")


def fingerprint(path: Path) -> str:
    return status.fingerprint(path)


def test_nothing_is_started_without_certificates(sites: Sites):
    site = sites("main")
    site.start()
    assert site.renew() == (1, 1)  # no authority yet
    said = site.folder / "master.out"
    wait_for(lambda: "waiting for " in said.read_text(), "the master to wait")
    assert site.pids()
    with pytest.raises(OSError, match="refused"):
        site.handshake(None)
    site.ready()
    site.wait("RUNNING")
    assert site.write_objects(one=1)


def test_only_who_has_a_certificate_gets_in(main: Site, sites: Sites):
    main.handshake(main.files.client)
    with pytest.raises(OSError, match="alert"):
        main.handshake(None)
    stranger = sites("stranger")
    stranger.ready()
    with pytest.raises(OSError, match="unknown ca"):
        main.handshake(stranger.files.client)
    with pytest.raises(subprocess.TimeoutExpired):  # it would be let in within a second
        main.client("read", (), timeout=6)
    assert main.write_objects(one=1)
    # Whoever knows the secret is let in, whatever it is.
    client = another_node(main, "client")
    assert tls.renew_node(client) == 0
    assert main.client("read", client.tls_files) == {"one": 1}


def test_a_wrong_secret(main: Site, capsys):
    thief = another_node(main, "thief")
    guessed = tls.NodeTls(thief.tls.caucased_url, "guessed")
    assert tls.renew_node(dataclasses.replace(thief, tls=guessed)) == 1
    assert (
        f"error: the cluster's endpoint {thief.tls.caucased_url} refuses our proof (the proof is not one of this "
        "cluster's secret of its certificates), expected it to know the secret in its URL: give the "
        "neo-certificate-url that the cluster publishes now"
    ) in capsys.readouterr().err
    assert not tls.has_certificate(tls.node_files(thief))


def test_a_renewal_is_seen_without_a_restart(main: Site, monkeypatch):
    before, pids = fingerprint(main.files.client), main.pids()
    assert main.shown() == {before}
    run = tls.MemberRun(tls.node_giver(main.node), times.now() + timedelta(days=63))
    assert run.complete() == 0
    after = fingerprint(main.files.client)
    assert main.shown() == {after} != {before}
    assert (main.pids(), main.state()) == (pids, "RUNNING")
    assert main.write_objects(after=1)
    found = tls.node_status(main.node, times.now())
    judged = verdict.certificates(found, times.now())
    assert judged.good, judged
    assert judged.sentences[0].endswith("; shown by neo-master and neo-admin and neo-storage-0")


def test_a_revoked_certificate_lets_nobody_in_any_more(main: Site):
    client = another_node(main, "client")
    assert tls.renew_node(client) == 0
    certificate = tls.node_files(client).client
    main.handshake(certificate)
    assert revoke.revoke(tls.Certificates(main.authority), str(certificate)) == 0
    assert tls.renew_node(main.node) == 0
    with pytest.raises(OSError, match="alert certificate revoked"):
        main.handshake(certificate)
    main.handshake(main.files.client)
    assert main.write_objects(one=1)


# ---- two clusters


def followed(main: Site, copy: Site) -> None:
    """`copy` follows, and has all of it."""
    copy.start()
    copy.wait("BACKINGUP")
    copy.wait_for_tid(main.write_objects(before="kept")[0])


def test_a_backup_takes_over_when_its_upstream_and_that_ones_authority_are_gone(main: Site, sites: Sites):
    copy = sites("copy", main)
    copy.ready()
    assert main.renew() == (0, 0)  # hears of the new authority
    assert len(trusted.load(main.files)) == len(trusted.load(copy.files)) == 1
    followed(main, copy)
    client = another_node(main, "client")
    assert tls.renew_node(client) == 0

    main.end()
    assert copy.renew() == (0, 0)  # it needs nothing of the dead one
    with copy.asker() as asker:
        asker.set_state("STOPPING_BACKUP")
    copy.wait("RUNNING")
    assert copy.write_objects(after="taken over")
    copy.end(*copy.node.names)
    copy.start()
    copy.wait("RUNNING")
    # The old one's clients are let in, with what they have: both clusters trust both authorities.
    assert copy.client("read", client.tls_files) == {"before": "kept", "after": "taken over"}


def test_an_old_upstream_can_follow_with_what_it_knows(main: Site, sites: Sites):
    copy = sites("copy", main)
    copy.ready()
    assert main.renew() == (0, 0)
    followed(main, copy)
    (known,) = trusted.load(main.files)
    assert known.url == own.url(copy.authority)
    # A new certificate of either side, and a new list, find their way.
    assert tls.Run(tls.Certificates(copy.authority), times.now() + timedelta(days=63)).complete() == 0
    assert tls.MemberRun(tls.node_giver(copy.node), times.now() + timedelta(days=63)).complete() == 0
    main.handshake(copy.files.client)
    copy.handshake(main.files.client)


def test_two_clusters_of_one_external_authority(sites: Sites):
    """It works as well; when that one is gone, nothing changes until what it has signed ends."""
    outside = sites("outside")
    outside.start_authority()
    external = own.url(outside.authority)
    main = sites("main", external=external)
    copy = sites("copy", main, external)
    client = CaucaseClient(f"{external}/cas", user_key=str(own.user(outside.authority)))
    for site in (main, copy):
        assert site.renew() == (0, 0)  # that it waits for somebody is no failure
        assert not tls.has_certificate(site.files)
    for one in client.getPendingCertificateRequestList():
        client.createCertificate(int(one["id"]))
    for site in (main, copy):
        assert site.renew() == (0, 0)
    main.start()
    main.wait("RUNNING")
    followed(main, copy)
    outside.end()
    main.end()
    assert copy.renew() == (1, 1)
    with copy.asker() as asker:
        asker.set_state("STOPPING_BACKUP")
    copy.wait("RUNNING")
    copy.end()
    copy.start()
    copy.wait("RUNNING")
    assert copy.client("read") == {"before": "kept"}


def test_what_ends_is_read_without_its_lists(main: Site):
    """With lists that ended, nodes would lock each other out at the next restart: then there are none."""
    where, later = main.files, times.now() + timedelta(days=40)
    trusted.write_bundle(where, tls.join.read_trust(where), later)
    text = trusted.bundle_file(where).read_text()
    assert certificates.parts(text, "CERTIFICATE") and not certificates.parts(text, "X509 CRL")
    main.end(*main.node.names)
    main.start()
    main.wait("RUNNING")


def test_files_are_ours_alone(main: Site):
    paths = [path for path in Files(main.folder).folder.rglob("*.pem")] + list(main.folder.rglob("*.json"))
    assert len(paths) > 8
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    assert files.KEY_SIZE == 2048
    wait_for(lambda: main.state() == "RUNNING", "the state RUNNING")
