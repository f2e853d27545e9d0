# SPDX-License-Identifier: GPL-2.0-or-later
"""An authority in memory, which signs whatever a test wants, with any dates."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from slapos.recipe.erp5.tls import files, template
from slapos.recipe.erp5.tls.authority import Trust

NOW = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
LIFE = timedelta(days=90)


class Authority:
    """`begun` so many days before `now`."""

    def __init__(self, name: str = "authority", begun: int = 30, days: int = 372, now: datetime = NOW) -> None:
        self.key, self.name, self.now = files.new_key(), files.name(name), now
        since = now - timedelta(days=begun)
        self.certificate = (
            files._certificate(self.name, self.name, self.key, since, since + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(self._which, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def _which(self) -> x509.AuthorityKeyIdentifier:
        """By which certificates and lists of one of several authorities of the same name are told apart."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def sign(self, kind=template.CLIENT, age: float = 0) -> str:
        """Key and certificate (PEM) of the kind, of which the part `age` of its life is over at that time."""
        key = files.new_key()
        since = self.now - LIFE * age
        builder = files._certificate(files.name(kind.name), self.name, key, since, since + LIFE)
        builder = builder.add_extension(self._which, critical=False)
        if kind.ips:
            builder = builder.add_extension(files.addresses(sorted(kind.ips)), False)
        return files.key_text(key) + files.text(builder.sign(self.key, hashes.SHA256()))

    def crl(self, *revoked: x509.Certificate, number: int = 1, age: timedelta = timedelta(0)):
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(self.now - age)
            .next_update(self.now - age + timedelta(days=30))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._which, critical=False)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(self.now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256())

    def trust(self, *revoked: x509.Certificate) -> Trust:
        return Trust(files.text(self.certificate), files.text(self.crl(*revoked)))
