# SPDX-License-Identifier: GPL-2.0-or-later
"""The partition's own authority: who may sign, what it signs, what nobody can do to it, and how it ends."""

import contextlib
import dataclasses
import json
import socket
import stat
from datetime import timedelta

import pytest
from caucase import utils
from caucase.client import CaucaseClient, CaucaseHTTPError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Caucased
from slapos.recipe.erp5.tls import authority, caucased, certificates, files, own, own_authority, renew, template
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers, tls_fixtures
from tests.service.tls_fixtures import Authority


@pytest.fixture
def service(config):
    with tls_fixtures.authority(config) as running:
        yield running


def request(kind=template.CLIENT):
    return template.request(kind, files.new_key())


def test_its_files_are_ours_alone(service, config):
    folder = own.folder(config)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("kind", ["cas", "cau"])
def test_nobody_is_approved_not_even_the_first_user(service, config, kind):
    client = CaucaseClient(f"{own.url(config)}/{kind}")
    number = client.createCertificateSigningRequest(request().encode())
    refused = (
        (client.getCertificate, 404),
        (client.createCertificate, 401),
        (client.deletePendingCertificateRequest, 401),
    )
    for ask, status in refused:
        with pytest.raises(CaucaseHTTPError) as caught:
            ask(number)
        assert caught.value.args[0] == status
    with pytest.raises(CaucaseHTTPError) as caught:
        client.getPendingCertificateRequestList()
    assert caught.value.args[0] == 401


def test_a_certificate_is_what_the_template_says_and_nothing_of_the_request(service, config):
    asked = request(template.Template("root", frozenset({"127.0.0.1"})))
    made = certificates.certificates(authority.sign(config, asked, template.CLIENT))[0]
    assert made.subject.rfc4514_string() == "CN=slapos-replication-client"
    assert template.CLIENT.describes(made)
    assert certificates.public_key(made) == certificates.public_key(certificates.request(asked))
    assert certificates.issuer(made, authority.own_certificates(config))
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=93)


def test_trust_is_what_the_authority_wrote_down(service, config):
    now = times.now()
    known = authority.trust(own.url(config), authority.own_certificates(config), (), now)
    assert known.ca == own.ca(config).read_text()
    (one,) = known.lists
    assert certificates.list_issuer(one, known.authorities)
    assert one.next_update_utc - one.last_update_utc == timedelta(days=93 * 0.33)


def test_a_stranger_in_its_place_is_not_believed(service, config, make_partition):
    other = make_partition()
    with tls_fixtures.authority(other), pytest.raises(CertificateError) as caught:
        authority.trust(own.url(other), authority.own_certificates(config), (), times.now())
    assert str(caught.value) == (
        f"cannot learn about certificates and revocations: the certificate authority {own.url(other)} cannot be used: "
        "its revocation list is not signed by the authority that we know"
    )


def test_an_older_revocation_list_is_not_taken(service, config):
    now, url, anchors = times.now(), own.url(config), authority.own_certificates(config)
    before = authority.trust(url, anchors, (), now)
    revoke(config, authority.issue(config, template.CLIENT))
    after = authority.trust(url, anchors, before.lists, now)
    assert [len(known.lists[0]) for known in (before, after)] == [0, 1]
    # Somebody repeats the old one: ours is newer.
    assert authority.newest([before.ca], (*after.lists, *before.lists), now).crl == after.crl


def revoke(config, text):
    client = CaucaseClient(f"{own.url(config)}/cas", user_key=str(own.user(config)))
    client.revokeCertificate(certificates.parts(text, "CERTIFICATE")[0].encode())


def test_a_certificate_is_renewed_by_its_key_and_not_after_it_was_revoked(service, config):
    text = authority.issue(config, template.CLIENT)
    renewed = authority.renew(own.url(config), certificates.pair(text))
    assert template.CLIENT.describes(certificates.pair(renewed).certificate)
    assert certificates.pair(renewed).key.private_numbers() != certificates.pair(text).key.private_numbers()
    revoke(config, text)
    with pytest.raises(CertificateError, match="^cannot renew a certificate: the certificate authority .* refuses: "):
        authority.renew(own.url(config), certificates.pair(text))


def test_who_fills_the_list_of_waiting_requests_stops_nobody(service, config, monkeypatch):
    url, listed = own.url(config), request()
    config = dataclasses.replace(config, caucased=Caucased("", (listed,)))
    client = CaucaseClient(f"{url}/cas")
    kept = client.createCertificateSigningRequest(listed.encode())
    with pytest.raises(CaucaseHTTPError) as caught:
        for _ in range(own_authority.MOST_PENDING + 1):
            client.createCertificateSigningRequest(request_of(20_000))
    assert caught.value.args[0] == 507
    made = authority.sign(config, request(), template.CLIENT)
    assert template.CLIENT.describes(certificates.certificates(made)[0])
    assert authority.sign_listed(config) == 1  # what is listed was not thrown away
    assert template.CLIENT.describes(certificates.certificates(client.getCertificate(kept).decode())[0])


def request_of(size):
    """A request with a new key, of a kind that is quick to make, and so many bytes that nobody wants."""
    ballast = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size))
    builder = x509.CertificateSigningRequestBuilder().subject_name(files.name("x")).add_extension(ballast, False)
    return files.text(builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())).encode()


def test_what_is_larger_than_any_request_is_not_kept(service, config):
    client = CaucaseClient(f"{own.url(config)}/cas")
    with pytest.raises(CaucaseHTTPError) as caught:
        client.createCertificateSigningRequest(request_of(own_authority.LARGEST_REQUEST))
    assert caught.value.args[0] == 413
    client.createCertificateSigningRequest(request_of(100))


def test_who_connects_again_and_again_is_one_of_a_limited_number(service, config):
    with contextlib.ExitStack() as stack:
        address = (config.network.ipv4, config.network.caucased_port)
        for _ in range(own_authority.MOST_CLIENTS + 5):
            last = stack.enter_context(socket.create_connection(address, source_address=("127.0.0.2", 0)))
        last.settimeout(own_authority.SILENCE / 2)
        assert last.recv(1) == b"", "closed at once"
        assert authority.issue(config, template.CLIENT), "our own programs are served all the same"


def test_a_client_that_says_nothing_stops_nobody(service, config):
    with socket.create_connection((config.network.ipv4, config.network.caucased_port + 1)):
        text = authority.issue(config, template.CLIENT)
    assert template.CLIENT.describes(certificates.pair(text).certificate)


def test_a_dead_one_is_a_sentence(service, config):
    assert service.stop() == 128 + 15
    with pytest.raises(CertificateError) as caught:
        authority.issue(config, template.CLIENT)
    assert str(caught.value) == (
        f"cannot sign a certificate: the certificate authority {own.url(config)} does not answer (Connection refused), "
        "expected it to run and be reachable"
    )


def test_a_restart_changes_nothing(service, config):
    text = authority.issue(config, template.CLIENT)
    before = {path.name: path.read_bytes() for path in (own.user(config), own.ca(config))}
    service.stop()
    service.run()
    assert {path.name: path.read_bytes() for path in (own.user(config), own.ca(config))} == before
    known = authority.trust(own.url(config), authority.own_certificates(config), (), times.now())
    authority.check(text, template.CLIENT, known, times.now())


def test_the_signing_user_is_made_anew_before_it_expires(config):
    own_authority.prepare(config, times.now())
    first = own.user(config).read_text()
    watch = caucased.Watch(config.path("etc", "mariadb.json"), configuration.load, config)
    later = times.now() + timedelta(days=63)
    assert watch.reason(times.now()) == ""
    assert watch.reason(later) == "the signing user's certificate is to be renewed"
    own_authority.prepare(config, times.now())
    assert own.user(config).read_text() == first
    own_authority.prepare(config, later)
    assert own.user(config).read_text() != first
    with tls_fixtures.authority(config):
        authority.issue(config, template.CLIENT)


def test_who_knows_an_old_certificate_of_it_learns_the_new_one(config, monkeypatch):
    """A rollover: 200 days after its beginning the authority has a second certificate, proved by the first."""
    past = times.now() - timedelta(days=200)
    with monkeypatch.context() as patched:
        patched.setattr(utils, "utcnow", lambda: past)
        own_authority.prepare(config, past)
    (old,) = authority.own_certificates(config)
    with tls_fixtures.authority(config):
        both = authority.own_certificates(config)
        assert len(both) == 2 and both[0] == old
        known = authority.trust(own.url(config), [old], (), times.now())
        assert known.authorities == both
        assert len(known.lists) == 2
        text = authority.issue(config, template.CLIENT)
        authority.check(text, template.CLIENT, known, times.now())
        # Until everybody knows the second one, the first one signs.
        assert certificates.issuer(certificates.pair(text).certificate, [old])
        with pytest.raises(CertificateError, match="each certificate of it that we know has expired"):
            authority.trust(own.url(config), [old], (), times.now() + timedelta(days=180))


def test_it_listens_on_both_addresses(make_partition):
    config = make_partition()
    network = dataclasses.replace(config.network, ipv6="::1")
    config = dataclasses.replace(config, network=network)
    servers.write_config(config)
    assert own.url(config) == f"http://[::1]:{network.caucased_port}"
    with tls_fixtures.authority(config):
        text = authority.issue(config, template.server(config))
        assert certificates.ips(certificates.pair(text).certificate) == {"127.0.0.1", "::1"}
        known = authority.trust(own.url(config, "127.0.0.1"), authority.own_certificates(config), (), times.now())
        authority.check(text, template.server(config), known, times.now())


def test_an_external_one_leaves_ours_idle_until_the_parameter_goes(config, monkeypatch):
    external = dataclasses.replace(config, caucased=Caucased("http://127.0.0.1:9", ()))
    servers.write_json(external)
    idle = Authority(external)
    try:
        idle.start()
        servers.wait_for(lambda: "no authority of our own, as http://127.0.0.1:9 is used" in idle.log(), "its line")
        assert not own.folder(config).exists()
        assert idle.stop() == 128 + 15
    finally:
        idle.end()
    watch = caucased.Watch(config.path("etc", "mariadb.json"), configuration.load, external)
    assert watch.reason(times.now()) == ""
    servers.write_json(config)
    assert watch.reason(times.now()) == "the configuration has changed"


def test_a_changed_configuration_begins_it_anew_under_the_same_number(config, monkeypatch):
    external = dataclasses.replace(config, caucased=Caucased("http://127.0.0.1:9", ()))
    servers.write_json(external)
    program = config.path("tmp", "caucased.py")
    program.write_text(
        "from slapos.recipe.erp5.mariadb.caucased import main\nfrom slapos.recipe.erp5.tls import caucased\n"
        "caucased.LOOK_EVERY = 0.1\nraise SystemExit(main())\n"
    )
    service = Authority(config)
    service.program = (str(program),)
    try:
        service.start()
        servers.wait_for(lambda: "is used" in service.log(), "its line")
        number = service.process.pid
        servers.write_json(config)
        servers.wait_for(service.answers, "an authority")
        assert service.process.pid == number
        assert service.log().count("beginning anew: the configuration has changed") == 1
    finally:
        service.end()


def test_what_the_parameter_lists_is_signed(service, config):
    asked = request(template.Template("anything"))
    client = CaucaseClient(f"{own.url(config)}/cas")
    number = client.createCertificateSigningRequest(asked.encode())
    other = client.createCertificateSigningRequest(request().encode())
    config = dataclasses.replace(config, caucased=Caucased("", ("no request", asked)))
    assert authority.sign_listed(config) == 1
    assert template.CLIENT.describes(certificates.certificates(client.getCertificate(number).decode())[0])
    with pytest.raises(CaucaseHTTPError):
        client.getCertificate(other)
    assert authority.sign_listed(config) == 0


def test_own_certificates_replace_the_placeholders(service, config, capsys):
    assert tls_fixtures.renew_now(config) == 0
    where = Files(config.tls)
    known = authority.Trust(where.ca.read_text(), where.crl.read_text())
    authority.check(where.server.read_text(), template.server(config), known, times.now())
    authority.check(where.client.read_text(), template.CLIENT, known, times.now())
    assert json.loads(where.authority.read_text()) == {"caucased-url": renew.OWN}
    before = {path: path.stat().st_mtime_ns for path in config.tls.iterdir()}
    capsys.readouterr()
    assert tls_fixtures.renew_now(config) == 0
    assert {path: path.stat().st_mtime_ns for path in config.tls.iterdir()} == before
    assert capsys.readouterr().err == ""
