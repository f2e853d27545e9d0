# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica gets its certificate: by proof of the password, whatever somebody between does, and by hand."""

import contextlib
import dataclasses
import json
import socket
import ssl
import threading
from datetime import timedelta

import pytest
from caucase.client import CaucaseClient

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.mariadb.config import Caucased, Replication
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.mariadb.tls import giver
from slapos.recipe.erp5.tls import authority, certificates, endpoint, files, join, own, template
from slapos.recipe.erp5.tls.context import client_context
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers, tls_fixtures
from tests.service.tls_fixtures import published, waiting_request


@pytest.fixture(scope="module")
def primary(tmp_path_factory):
    """A primary's partition with its authority and its own certificates; no server."""
    config = servers.make_config(tmp_path_factory.mktemp("p"))
    with tls_fixtures.authority(config):
        assert tls_fixtures.renew_now(config) == 0
        yield config


@pytest.fixture
def between(primary):
    """The primary's endpoint, where somebody may sit between."""
    with tls_fixtures.endpoint(primary) as made:
        yield made


@pytest.fixture
def upstream(config):
    return Files(config.tls).upstream


def replication(**changes):
    values = {
        "primary_url": "mysql://u:p@127.0.0.1:1",
        "bootstrap_url": "",
        "caucased_url": "",
        "seconds_behind_master_threshold": 0,
        "allow_tcp_connections_on_replica": True,
        "replicate_with_tls": True,
    }
    return Replication(**values | changes)


def refused(config, primary):
    """The sentence with which joining fails; nothing is there afterwards that was not before."""
    before = sorted(config.tls.rglob("*"))
    with pytest.raises(CertificateError) as caught:
        join.join(giver(config, primary))
    assert sorted(config.tls.rglob("*")) == before
    return str(caught.value)


# ---- by proof


def test_the_password_gives_a_certificate_of_the_primarys_authority(primary, between, config, upstream):
    assert join.needs_join(upstream, times.now()) == f"{upstream.ca} is missing"
    join.join(giver(config, published(primary)))
    assert join.needs_join(upstream, times.now()) == ""
    assert upstream.ca.read_text() == Files(primary.tls).ca.read_text()
    assert upstream.crl.read_text() == Files(primary.tls).crl.read_text()
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert json.loads(upstream.authority.read_text()) == {"caucased-url": own.url(primary), "endpoint": base}
    assert {path.stat().st_mode & 0o777 for path in upstream.folder.iterdir()} == {0o600}
    assert primary.secrets.replication_password not in json.dumps(between.seen)
    # And from now on everything is verified.
    context = client_context(upstream, TERMS)
    assert endpoint.Endpoint(base, context, TERMS).ask("GET", "/replication/challenge")[0] == 200


def test_afterwards_another_server_in_its_place_is_noticed(primary, between, config, upstream, make_partition):
    join.join(giver(config, published(primary)))
    other = make_partition()
    with tls_fixtures.endpoint(other):
        base = f"https://127.0.0.1:{other.network.backup_port}"
        with pytest.raises(CertificateError, match="certificate verify failed: unable to get local issuer certificate"):
            endpoint.Endpoint(base, client_context(upstream, TERMS), TERMS).ask("GET", "/replication/challenge")


def test_a_wrong_password(primary, between, config):
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert refused(config, published(primary, password="guessed")) == (
        f"the primary's endpoint {base} refuses our proof (the proof is not one of this primary's replication "
        "password), expected it to know the password of replication.primary-url: give the URL that the primary "
        "publishes now"
    )


def test_a_request_that_is_repeated(primary, between, config):
    join.join(giver(config, published(primary)))
    (request,) = between.seen
    assert between.signer.certificate(request) == (
        403,
        {"error": "the challenge is not one of this primary's, was used, or is older than 5 minutes"},
    )
    fresh = {**request, **between.signer.challenge()}
    assert between.signer.certificate(fresh) == (
        403,
        {"error": "the proof is not one of this primary's replication password"},
    )


OTHER_KEY = template.request(template.CLIENT, files.new_key())


@pytest.mark.parametrize(
    "change",
    [
        {"csr": OTHER_KEY},
        {"nonce": "0" * 64},
        {"mac": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_request_that_somebody_changed(primary, between, config, change):
    between.tamper = lambda request: {**request, **change}
    assert "(the proof is not one of this primary's replication password)" in refused(config, published(primary))


def test_a_request_of_another_subject_gets_what_replicas_get(primary, between, config, upstream, monkeypatch):
    monkeypatch.setattr(template.Template, "subject", "CN=root")
    monkeypatch.setattr(template, "request", lambda _, key, ask=template.request: ask(template.Template("root"), key))
    join.join(giver(config, published(primary)))
    made = certificates.pair(upstream.client.read_text()).certificate
    assert template.CLIENT.describes(made)


def other_authority():
    return dict(zip(("ca", "crl"), files.placeholders("mariadb", ("127.0.0.1",), times.now())[:2], strict=True))


@pytest.mark.parametrize("name", ["certificate", "ca", "crl", "caucased-url", "mac"])
def test_an_answer_that_somebody_changed(primary, between, config, name):
    certificate = authority.sign(primary, template.request(template.CLIENT, files.new_key()), template.CLIENT)
    forged = {**other_authority(), "certificate": certificate, "caucased-url": "http://127.0.0.1:9", "mac": "0" * 64}
    between.forge = lambda answer: {**answer, name: forged[name]}
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert refused(config, published(primary)) == (
        f"the answer of {base} is not proved with the replication password, expected our primary's: it is another "
        "server, or somebody between changed the answer; nothing of it was used"
    )


def test_somebody_between_with_an_authority_of_their_own(primary, between, config, make_partition):
    """They answer themselves, with a certificate and a MAC that a guessed password gives."""
    other = make_partition()
    other = dataclasses.replace(other, network=dataclasses.replace(other.network, backup_port=servers.free_port()))
    with tls_fixtures.authority(other):
        assert tls_fixtures.renew_now(other) == 0
        with tls_fixtures.endpoint(other) as man:
            man.signer._proved = lambda fields, password: certificates.public_key(certificates.request(fields["csr"]))
            man.signer._load = lambda: dataclasses.replace(
                other, secrets=dataclasses.replace(other.secrets, replication_password="guessed")
            )
            base = f"https://127.0.0.1:{other.network.backup_port}"
            assert "is not proved with the replication password" in refused(config, published(primary, endpoint=base))


def test_a_primary_that_proves_itself_and_gives_what_does_not_fit(primary, between, config, monkeypatch):
    stranger = authority.issue(primary, template.server(primary))
    monkeypatch.setattr(authority, "sign", lambda *_: certificates.parts(stranger, "CERTIFICATE")[0])
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert refused(config, published(primary)) == (
        f"what the primary's endpoint {base} gave cannot be used: its certificate is not its key's"
    )


def test_a_dead_primary(primary, config):
    base = f"https://127.0.0.1:{servers.free_port()}"
    assert refused(config, published(primary, endpoint=base)) == (
        f"the primary's endpoint {base} does not answer (Connection refused), expected it to run and be reachable"
    )


def test_a_dead_authority(primary, between, config):
    gone = dataclasses.replace(primary.network, caucased_port=servers.free_port())
    between.signer._load = lambda: dataclasses.replace(primary, network=gone)
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert refused(config, published(primary)) == (
        f"the primary's endpoint {base} gives no certificate: HTTP status 503: the primary cannot sign: cannot sign a "
        f"certificate: the certificate authority http://127.0.0.1:{gone.caucased_port} does not answer (Connection "
        "refused), expected it to run and be reachable"
    )


def test_a_primary_that_has_no_certificates_of_its_own_yet(primary, config, make_partition):
    young = make_partition()
    with tls_fixtures.authority(young), tls_fixtures.endpoint(young):
        assert refused(config, published(young)).endswith(
            "HTTP status 503: the primary cannot sign: it has no certificates of its own authority yet: wait a minute "
            "and try again"
        )


@pytest.mark.parametrize("said", ["nothing", "trickle", "flood"])
def test_an_endpoint_that_answers_without_end(primary, config, monkeypatch, said):
    monkeypatch.setattr(authority, "DEADLINE", 1.0)
    monkeypatch.setattr(authority, "LARGEST", 1 << 16)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Files(primary.tls).server)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        base = f"https://127.0.0.1:{listening.getsockname()[1]}"
        threading.Thread(target=answer_without_end, args=(listening, context, said), daemon=True).start()
        reasons = {"nothing": "Remote end closed", "trickle": "IncompleteRead", "flood": "more than 65536 bytes"}
        sentence = refused(config, published(primary, endpoint=base))
    assert sentence.startswith(f"the primary's endpoint {base} does not answer (")
    assert reasons[said] in sentence


def answer_without_end(listening, context, said):
    ended = threading.Event()
    with contextlib.suppress(OSError):
        connection = context.wrap_socket(listening.accept()[0], server_side=True)
        connection.recv(4096)
        if said != "nothing":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        while said != "nothing":
            connection.sendall(b"x" if said == "trickle" else b"x" * 8192)
            ended.wait(0.05 if said == "trickle" else 0)
        connection.recv(1)


def test_something_else_in_its_place(primary, between, config):
    between.signer.challenge = lambda: ["no object"]
    base = f"https://127.0.0.1:{primary.network.backup_port}"
    assert refused(config, published(primary)) == (
        f"the primary's endpoint {base} answers with HTTP status 200 and no JSON object, expected the endpoint of a "
        "MariaDB partition: compare replication.primary-url with what the primary publishes"
    )


def test_an_expired_revocation_list_is_fetched_and_the_certificate_kept(primary, between, config, upstream):
    join.join(giver(config, published(primary)))
    later = times.now() + timedelta(days=31)
    assert join.needs_join(upstream, later) == "the revocation list has expired"
    client = upstream.client.read_text()
    join.join(giver(config, published(primary)))
    assert len(between.seen) == 1
    assert upstream.client.read_text() == client


def test_another_primary_gives_another_certificate(primary, between, config, upstream, make_partition):
    join.join(giver(config, published(primary)))
    other = make_partition()
    with tls_fixtures.authority(other):
        assert tls_fixtures.renew_now(other) == 0
        with tls_fixtures.endpoint(other):
            join.join(giver(config, published(other)))
    assert upstream.ca.read_text() == Files(other.tls).ca.read_text()
    assert join.needs_join(upstream, times.now()) == ""


# ---- by hand


def by_hand(config, primary):
    return dataclasses.replace(config, replication=replication(caucased_url=own.url(primary)))


def test_somebody_approves_by_hand(primary, config, upstream):
    config = by_hand(config, primary)
    bare = published(primary, endpoint="")
    asked = waiting_request(config)
    assert certificates.request(asked).subject.rfc4514_string() == "CN=slapos-replication-client"
    for _ in range(2):  # each time the same one
        with pytest.raises(join.Pending) as caught:
            join.join(giver(config, bare))
        assert waiting_request(config) == asked
    number = authority.obtain(own.url(primary), asked)[0]
    assert str(caught.value) == (
        f"our certificate request {number} waits at {own.url(primary)} for somebody's approval: add our "
        "caucased-csr-to-sign to caucased.csr-to-sign of the primary, or have it signed there; then it goes on by "
        "itself"
    )
    told = dataclasses.replace(primary, caucased=Caucased("", (asked,)))
    assert tls_fixtures.renew_now(told) == 0
    join.join(giver(config, bare))
    assert join.needs_join(upstream, times.now()) == ""
    assert not upstream.pending(upstream.client).exists()
    assert json.loads(upstream.authority.read_text()) == {"caucased-url": own.url(primary), "endpoint": ""}


def test_approved_with_another_subject(primary, config):
    config = by_hand(config, primary)
    asked = waiting_request(config)
    authority.obtain(own.url(primary), asked)
    client = CaucaseClient(f"{own.url(primary)}/cas", user_key=str(own.user(primary)))
    number = next(int(one["id"]) for one in client.getPendingCertificateRequestList() if one["csr"] == asked)
    client.createCertificate(number, template.to_sign(template.Template("other")).encode())
    assert refused(config, published(primary, endpoint="")) == (
        f"what the certificate authority {own.url(primary)} gave cannot be used: the certificate is of CN=other, "
        "expected CN=slapos-replication-client and its addresses"
    )


def test_a_primary_with_an_external_authority(primary, between, config, upstream, make_partition):
    """Its own certificates wait there for approval; a replica is told where to ask, and asks when it may."""
    external = own.url(primary)
    member = make_partition(caucased=Caucased(external, ()))
    assert tls_fixtures.renew_now(member) == 0
    client = CaucaseClient(f"{external}/cas", user_key=str(own.user(primary)))
    for one in client.getPendingCertificateRequestList():
        client.createCertificate(int(one["id"]))
    assert tls_fixtures.renew_now(member) == 0
    where = Files(member.tls)
    known = authority.Trust(where.ca.read_text(), where.crl.read_text())
    authority.check(where.server.read_text(), template.server(member), known, times.now())
    with tls_fixtures.endpoint(member):
        base = f"https://127.0.0.1:{member.network.backup_port}"
        assert refused(config, published(member)) == (
            f"the primary's endpoint {base} gives no certificates: this primary uses the certificate authority "
            f"{external}, where it cannot sign: give replication.primary-url without its query, that URL as "
            "replication.caucased-url, and have the request approved there"
        )
        # Whoever sits between could say so too: an authority that nothing proves is for a person to choose.
        config = by_hand(config, primary)
        assert "gives no certificates" in refused(config, published(member))
        assert not upstream.ca.exists()
        with pytest.raises(join.Pending):
            join.join(giver(config, published(member, endpoint="")))
        for one in client.getPendingCertificateRequestList():
            client.createCertificate(int(one["id"]))
        join.join(giver(config, published(member, endpoint="")))
    assert join.needs_join(upstream, times.now()) == ""


def test_neither_endpoint_nor_authority(primary, config):
    assert refused(config, published(primary, endpoint="")) == (
        "replication.primary-url has no endpoint in its query, expected the whole replication-primary-url that the "
        "primary publishes; or give replication.caucased-url to have a certificate approved by hand"
    )
