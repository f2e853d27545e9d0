# SPDX-License-Identifier: GPL-2.0-or-later
"""A certificate authority for tests: it puts what it made where a partition's servers read it."""

import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.tls import certificates, files
from slapos.recipe.erp5.tls.files import Files

DAY = timedelta(days=1)


class Authority:
    """Signs, and revokes, certificates that are valid for another day, unless a test wants to have it otherwise."""

    def __init__(self, name: str = "authority") -> None:
        self.key, self.name, self.revoked = files.new_key(), files.name(name), list[int]()
        self.certificate = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, key, until: datetime | None = None) -> x509.CertificateBuilder:
        until = until or times.now() + DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 2 * DAY)
            .not_valid_after(until)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    def ca(self) -> str:
        """Its own certificate as PEM."""
        return files.text(self.certificate)

    def issue(self, name: str, *ips: str, until: datetime | None = None) -> str:
        """Key and certificate of a server, when it has addresses, or else of a client."""
        key = files.new_key()
        usage = ExtendedKeyUsageOID.SERVER_AUTH if ips else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(files.name(name), key, until)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if ips:
            builder = builder.add_extension(files.addresses(ips), critical=False)
        return files.key_text(key) + files.text(builder.sign(self.key, hashes.SHA256()))

    def issue_for_both_ends(self, name: str) -> str:
        """Key and certificate of who is now the server, now the client of a connection, as NEO's nodes are."""
        key = files.new_key()
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = self._builder(files.name(name), key).add_extension(usage, critical=False)
        return files.key_text(key) + files.text(certificate.sign(self.key, hashes.SHA256()))

    def sign(self, request: str) -> str:
        """The certificate of a replication client for the key of a request (PEM)."""
        builder = self._builder(files.name(files.CLIENT_NAME), certificates.request(request))
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return files.text(builder.add_extension(usage, critical=False).sign(self.key, hashes.SHA256()))

    def revoke(self, pem: str) -> None:
        """The next crl() names this certificate."""
        self.revoked.append(x509.load_pem_x509_certificate(pem.encode()).serial_number)

    def crl(self) -> str:
        now = times.now() - timedelta(minutes=1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now)
        for number in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return files.text(builder.next_update(now + DAY).sign(self.key, hashes.SHA256()))

    def install(self, folder: Path, *ips: str) -> None:
        """Put what the servers of a partition read into its srv/tls, and a client's certificate."""
        where = Files(folder)
        process.write_atomically(where.ca, self.ca())
        process.write_atomically(where.crl, self.crl())
        process.write_atomically(where.server, self.issue(files.SERVER_NAME, *ips))
        process.write_atomically(where.client, self.issue(files.CLIENT_NAME))


def client_context(authority: Path, certificate: Path | None) -> ssl.SSLContext:
    """What a client needs to know `authority` (a PEM file), and to be known."""
    context = ssl.create_default_context(cafile=str(authority))
    if certificate:
        context.load_cert_chain(certificate)
    return context
