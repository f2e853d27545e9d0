# SPDX-License-Identifier: GPL-2.0-or-later
"""Placeholders: four files that belong together, made once, which real TLS accepts."""

import ssl
import stat

from cryptography import x509

from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import Files


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_is_there_stays(tmp_path):
    folder = tmp_path / "tls"
    assert files.ensure(folder, "mariadb", ["127.0.0.1", "::1"])
    made = contents(folder)
    assert sorted(made) == ["ca.pem", "client.pem", "crl.pem", "server.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not files.ensure(folder, "mariadb", ["127.0.0.1"])
    assert contents(folder) == made


def test_a_missing_one_is_replaced_with_those_that_belong_to_it(tmp_path):
    files.ensure(tmp_path, "mariadb", ["127.0.0.1"])
    made = contents(tmp_path)
    Files(tmp_path).crl.unlink()
    assert files.ensure(tmp_path, "mariadb", ["127.0.0.1"])
    assert all(made[name] != text for name, text in contents(tmp_path).items())


def test_tls_accepts_them_with_their_addresses(tmp_path):
    files.ensure(tmp_path, "mariadb", ["127.0.0.1", "", "::1"])
    where = Files(tmp_path)
    server, client = (ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    for context, pair in ((server, where.server), (client, where.client)):
        context.load_cert_chain(pair)
        context.load_verify_locations(where.ca)
        context.load_verify_locations(where.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.verify_mode = ssl.CERT_REQUIRED
    for host in ("127.0.0.1", "::1"):
        handshake(server, client, host)


def handshake(server, client, host):
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[1].getpeercert()["subject"] == ((("commonName", files.CLIENT_NAME),),)


def test_the_clients_subject_is_the_one_that_accounts_require(tmp_path):
    files.ensure(tmp_path, "mariadb", [])
    certificate = x509.load_pem_x509_certificate(Files(tmp_path).client.read_bytes())
    assert f"/{certificate.subject.rfc4514_string()}" == files.CLIENT_SUBJECT
