# SPDX-License-Identifier: GPL-2.0-or-later
"""The signer without an authority: which request is answered how; tests/service/test_tls_join.py has the real one."""

import dataclasses
from datetime import timedelta

import pytest

from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.mariadb.config import Caucased
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.tls import authority, certificates, files, proof, template
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.signer import LARGEST_REQUEST, Signer
from tests.unit.mariadb import partition
from tests.unit.tls.made import NOW, Authority

KEY = files.new_key()
PUBLIC = certificates.spki(KEY.public_key())
CSR = template.request(template.CLIENT, KEY)
CERTIFICATE = files.placeholders("mariadb", (), NOW)[0]
NONCE = "ab" * 32
USED = "the challenge is not one of this primary's, was used, or is older than 5 minutes"
UNPROVED = "the proof is not one of this primary's replication password"


@pytest.fixture(scope="module")
def made():
    return Authority()


@pytest.fixture
def config(tmp_path, made):
    config = partition.config(tmp_path / "p")
    config.tls.mkdir(parents=True)
    where, trust = Files(config.tls), made.trust()
    where.ca.write_text(trust.ca)
    where.crl.write_text(trust.crl)
    return config


@pytest.fixture
def signed(monkeypatch):
    """What was signed: requests and templates."""
    calls = []
    monkeypatch.setattr(authority, "sign", lambda _, csr, kind: calls.append((csr, kind)) or CERTIFICATE)
    return calls


@pytest.fixture
def signer(config, signed):
    return Signer(lambda: config, TERMS, lambda: NOW)


def request(signer, password="r", subject=template.CLIENT.subject, **changes):
    challenge = signer.challenge()["challenge"]
    mac = proof.request(password, challenge, NONCE, PUBLIC, subject)
    return {"challenge": challenge, "nonce": NONCE, "csr": CSR, "mac": mac, **changes}


def test_good(signer, signed, config):
    asked = request(signer)
    status, answer = signer.certificate(asked)
    assert status == 200
    assert signed == [(CSR, template.CLIENT)]
    where, url = Files(config.tls), "http://127.0.0.2:24002"
    content = (CERTIFICATE, where.ca.read_text(), where.crl.read_text(), url)
    mac = proof.answer("r", asked["challenge"], NONCE, PUBLIC, *content)
    assert answer == dict(zip(("certificate", "ca", "crl", "caucased-url", "mac"), (*content, mac), strict=True))


def test_the_url_is_at_the_address_that_the_replica_used(config, signed):
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, ipv6="::1"))
    signer = Signer(lambda: config, TERMS, lambda: NOW)
    urls = {
        host: signer.certificate(request(signer, host=host))[1]["caucased-url"] for host in ("127.0.0.2", "6.6.6.6")
    }
    assert urls == {"127.0.0.2": "http://127.0.0.2:24002", "6.6.6.6": "http://[::1]:24002"}


@pytest.mark.parametrize(
    "changes",
    [{"password": "x"}, {"subject": "CN=root"}, {"nonce": "cd" * 32}, {"mac": "0" * 64}],
    ids=lambda changes: next(iter(changes)),
)
def test_unproved(signer, signed, changes):
    assert signer.certificate(request(signer, **changes)) == (403, {"error": UNPROVED})
    assert signed == []


def test_a_proof_of_another_key(signer, signed):
    other = template.request(template.CLIENT, files.new_key())
    assert signer.certificate(request(signer, csr=other)) == (403, {"error": UNPROVED})
    assert signed == []


def test_a_challenge_counts_once_for_who_proved_it(signer, signed):
    asked = request(signer)
    assert signer.certificate({**asked, "mac": "0" * 64}) == (403, {"error": UNPROVED})
    assert signer.certificate(asked)[0] == 200
    assert signer.certificate(asked) == (403, {"error": USED})
    assert len(signed) == 1


def test_an_old_challenge(config, signed):
    now = [NOW]
    signer = Signer(lambda: config, TERMS, lambda: now[0])
    asked = request(signer)
    now[0] += timedelta(minutes=5)
    assert signer.certificate(asked) == (403, {"error": USED})


@pytest.mark.parametrize("body", [None, [], "text", {}, {"challenge": 1, "nonce": 2, "csr": 3, "mac": 4}])
def test_no_request(signer, signed, body):
    sentence = "the request is no JSON object with the texts challenge, nonce, csr and mac"
    assert signer.certificate(body) == (400, {"error": sentence})


@pytest.mark.parametrize("name", ["challenge", "nonce", "mac"])
@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "a" * 64 + "\n", "é" * 64])
def test_of_another_form(signer, signed, name, text):
    sentence = "challenge, nonce and mac are not 64 lower-case hexadecimal digits each"
    assert signer.certificate(request(signer, **{name: text})) == (400, {"error": sentence})


def test_too_large(signer, signed):
    sentence = f"the certificate request is longer than {LARGEST_REQUEST} bytes, or not ASCII"
    for text in ("x" * (LARGEST_REQUEST + 1), "é"):
        assert signer.certificate(request(signer, csr=text)) == (400, {"error": sentence})


def test_no_certificate_request(signer, signed):
    sentence = "the certificate request cannot be used: it is no certificate request in PEM"
    assert signer.certificate(request(signer, csr="x")) == (400, {"error": sentence})


def test_an_external_authority(config, signed):
    config = dataclasses.replace(config, caucased=Caucased("http://192.0.2.1:8009/", ()))
    signer = Signer(lambda: config, TERMS, lambda: NOW)
    assert signer.certificate(request(signer)) == (
        409,
        {
            "error": "this primary uses the certificate authority http://192.0.2.1:8009, where it cannot sign: give "
            "replication.primary-url without its query, that URL as replication.caucased-url, and have the request "
            "approved there"
        },
    )
    assert signed == []


def test_an_authority_that_fails(signer, monkeypatch):
    def fails(*_):
        raise CertificateError("cannot sign a certificate: it is dead")

    monkeypatch.setattr(authority, "sign", fails)
    sentence = "the primary cannot sign: cannot sign a certificate: it is dead"
    assert signer.certificate(request(signer)) == (503, {"error": sentence})


def test_placeholders_are_given_to_nobody(config, signed):
    ca, crl, *_ = files.placeholders("mariadb", ("127.0.0.2",), NOW)
    Files(config.tls).ca.write_text(ca)
    Files(config.tls).crl.write_text(crl)
    signer = Signer(lambda: config, TERMS, lambda: NOW)
    sentence = "it has no certificates of its own authority yet: wait a minute and try again"
    assert signer.certificate(request(signer)) == (503, {"error": f"the primary cannot sign: {sentence}"})
    assert signed == []
