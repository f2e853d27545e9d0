# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading and judging PEM texts: what belongs together, what is over, what is nobody's."""

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import authority, certificates, files, renew, template
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.template import Template
from tests.unit.tls.made import NOW, Authority

SERVER = Template("mariadb", frozenset({"127.0.0.1", "::1"}))


@pytest.fixture(scope="module")
def made():
    return Authority()


@pytest.fixture(scope="module")
def other():
    return Authority()  # of the same name


def test_a_pair(made):
    text = made.sign()
    found = certificates.pair(text)
    assert certificates.public_key(found.certificate) == certificates.spki(found.key.public_key())


def test_no_pair(made):
    one, other = made.sign(), made.sign()
    mixed = certificates.parts(one, "PRIVATE KEY")[0] + certificates.parts(other, "CERTIFICATE")[0]
    with pytest.raises(CertificateError, match="^its certificate is not its key's$"):
        certificates.pair(mixed)
    for half in ("", one[: len(one) // 2], *certificates.parts(one, "CERTIFICATE")):
        with pytest.raises(CertificateError, match="^it holds no private key with its certificate$"):
            certificates.pair(half)


def test_a_request_of_a_usual_key():
    for key in (files.new_key(), ec.generate_private_key(ec.SECP256R1())):
        assert certificates.request(request_of(key)).is_signature_valid


def request_of(key, algorithm=hashes.SHA256()):  # noqa: B008
    return files.text(x509.CertificateSigningRequestBuilder().subject_name(files.name("x")).sign(key, algorithm))


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), rsa.generate_private_key(3, 2048)], ids=["short", "exponent"]
)
def test_a_request_of_an_unusual_key(key):
    with pytest.raises(CertificateError, match="^its key is not RSA of 2048 to 8192 bits, nor one on a known curve$"):
        certificates.request(request_of(key))


def test_a_request_of_a_key_that_certificates_here_do_not_have():
    with pytest.raises(CertificateError, match="^its key is not RSA"):
        certificates.request(request_of(ed25519.Ed25519PrivateKey.generate(), None))


def test_a_request_that_was_changed():
    text = request_of(files.new_key())
    der = bytearray(x509.load_pem_x509_csr(text.encode()).public_bytes(certificates.serialization.Encoding.DER))
    der[-1] ^= 1
    changed = files.text(x509.load_der_x509_csr(bytes(der)))
    with pytest.raises(CertificateError, match="^its signature is not its key's$"):
        certificates.request(changed)


def test_life_left(made):
    for age, left in ((0, 1.0), (0.75, 0.25), (1, 0.0), (2, -1.0)):
        certificate = certificates.pair(made.sign(age=age)).certificate
        assert certificates.life_left(certificate, NOW) == pytest.approx(left)


def test_placeholders_are_known(made):
    ca, _, server, client = files.placeholders("mariadb", ("127.0.0.1",), NOW)
    assert all(certificates.is_placeholder(certificates.certificates(text)[0]) for text in (ca, server, client))
    assert not certificates.is_placeholder(made.certificate)


def test_what_a_template_describes(made):
    server = certificates.pair(made.sign(SERVER)).certificate
    assert SERVER.describes(server)
    assert not template.CLIENT.describes(server)
    assert not Template("mariadb", frozenset({"127.0.0.1"})).describes(server)
    assert template.CLIENT.describes(certificates.pair(made.sign()).certificate)


def test_a_longer_subject_is_another_one(made):
    longer = x509.Name([*files.name(files.CLIENT_NAME), *files.name("more")])
    builder = files._certificate(longer, made.name, files.new_key(), NOW, NOW + timedelta(days=1))
    assert not template.CLIENT.describes(builder.sign(made.key, hashes.SHA256()))


def check(text, known, kind=template.CLIENT):
    with pytest.raises(CertificateError) as caught:
        authority.check(text, kind, known, NOW)
    return str(caught.value)


def test_check(made, other):
    good = made.sign()
    authority.check(good, template.CLIENT, made.trust(), NOW)
    assert check(good, other.trust()) == "the certificate is not signed by the authority that we know"
    assert check(made.sign(age=1.5), made.trust()) == "the certificate expired at 2026-10-10 12:00 UTC"
    revoked = certificates.pair(good).certificate
    assert check(good, made.trust(revoked)) == "the certificate is revoked"
    assert check(good, made.trust(), SERVER) == (
        "the certificate is of CN=slapos-replication-client, expected CN=mariadb and its addresses"
    )


@pytest.mark.parametrize(
    "age, reason",
    [(0, ""), (0.66, ""), (0.67, "33% of its life is left"), (1.5, "the certificate expired at 2026-10-10 12:00 UTC")],
)
def test_due(made, age, reason):
    assert renew.due(made.sign(age=age), template.CLIENT, made.trust(), NOW) == reason


def test_due_for_other_reasons(made, other):
    assert renew.due("", template.CLIENT, made.trust(), NOW) == "there is none"
    assert renew.due("x", template.CLIENT, made.trust(), NOW) == "it holds no private key with its certificate"
    placeholder = files.placeholders("mariadb", ("127.0.0.1",), NOW)[3]
    assert renew.due(placeholder, template.CLIENT, made.trust(), NOW) == "it is a placeholder"
    reason = "the certificate is not signed by the authority that we know"
    assert renew.due(other.sign(), template.CLIENT, made.trust(), NOW) == reason
    moved = renew.due(made.sign(SERVER), Template("mariadb", frozenset({"127.0.0.2"})), made.trust(), NOW)
    assert moved == "the certificate is of CN=mariadb, expected CN=mariadb and its addresses"


def newest(authorities, lists):
    return authority.newest([files.text(one.certificate) for one in authorities], lists, NOW)


def test_the_newest_list_of_each_authority(made, other):
    old, new = made.crl(number=1), made.crl(number=2)
    later, earlier = other.crl(number=1), other.crl(number=9, age=timedelta(days=1))
    known = newest((made, other), (new, old, earlier, later))
    assert known.crl == files.text(new) + files.text(later)
    assert known.authorities == (made.certificate, other.certificate)


def test_an_authority_without_a_list(made, other):
    with pytest.raises(CertificateError, match="^its revocation list is not signed by the authority that we know$"):
        newest((made, other), [made.crl()])


def test_an_authority_that_is_over(made):
    over = Authority(begun=400)
    assert newest((over, made), [made.crl()]).authorities == (made.certificate,)
    with pytest.raises(CertificateError, match="^none of its certificates is an authority's that is valid now$"):
        newest((over,), [over.crl()])


def test_no_authority_at_all(made):
    text = certificates.parts(made.sign(), "CERTIFICATE")[0]
    with pytest.raises(CertificateError, match="^none of its certificates is an authority's that is valid now$"):
        authority.newest([text], [made.crl()], NOW)


def test_two_authorities_of_one_name_in_real_tls(tmp_path):
    """After a rollover both are in one file, with their lists: certificates of both are accepted, revoked ones not."""
    made, other = (Authority(now=times.now()) for _ in range(2))
    revoked, good = other.sign(), [made.sign(SERVER), other.sign(SERVER)]
    known = Trust(
        files.text(made.certificate) + files.text(other.certificate),
        files.text(made.crl()) + files.text(other.crl(certificates.pair(revoked).certificate)),
    )
    assert [handshake(tmp_path, known, server, made.sign()) for server in good] == ["", ""]
    assert "revoked" in handshake(tmp_path, known, good[0], revoked)


def handshake(folder, known, server, client):
    """What the server says of the client's certificate, empty for nothing against it."""
    names = {"ca": known.ca, "crl": known.crl, "server": server, "client": client}
    for name, text in names.items():
        (folder / name).write_text(text)
    ends = []
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    kinds = ((ssl.PROTOCOL_TLS_SERVER, "server"), (ssl.PROTOCOL_TLS_CLIENT, "client"))
    for number, (kind, name) in enumerate(kinds):
        context = ssl.SSLContext(kind)
        context.load_cert_chain(folder / name)
        context.load_verify_locations(folder / "ca")
        context.load_verify_locations(folder / "crl")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED
        host = None if name == "server" else "127.0.0.1"
        ends.append(context.wrap_bio(*pipes[:: 1 if number else -1], name == "server", host))
    said = ""
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                said = error.verify_message
            except ssl.SSLError:
                pass
    return said
