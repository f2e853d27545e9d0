# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys, certificates and revocation lists of a partition, in `srv/tls`: each file is replaced whole.

A key lies in one file with its certificate: a crash between two files would leave a pair that does not match.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.tls.partition import CLIENT_NAME

CLIENT_SUBJECT = f"/CN={CLIENT_NAME}"
"""The subject of every replication client, in the form of REQUIRE SUBJECT: an account has one, and grants replicate."""
PLACEHOLDER_NAME = "placeholder until the certificate authority has answered"
KEY_SIZE = 2048
PLACEHOLDER_VALIDITY = timedelta(days=3650)
"""A placeholder is replaced as soon as the authority runs; one that expired would only hide why it was not."""


@dataclass(frozen=True)
class Files:
    """Where each file of the folder `srv/tls` (mode 0700) is; `upstream` is of a primary's authority."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def crl(self) -> Path:
        return self.folder / "crl.pem"

    @property
    def server(self) -> Path:
        """Key and certificate of the partition's servers."""
        return self.folder / "server.pem"

    @property
    def client(self) -> Path:
        """Key and certificate of a replication client, from the same authority."""
        return self.folder / "client.pem"

    @property
    def authority(self) -> Path:
        """Which authority ca.pem is of (JSON: its URL, or `own`)."""
        return self.folder / "authority.json"

    @property
    def upstream(self) -> "Files":
        """What a replica has of its primary's authority: all but a server's certificate."""
        return Files(self.folder / "upstream")

    @staticmethod
    def pending(path: Path) -> Path:
        """Where the key and the request wait that are to become the key and the certificate at `path`."""
        return path.with_suffix(".pending.pem")


def new_key() -> rsa.RSAPrivateKey:
    """A private key, of the kind that all of our certificates have."""
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_SIZE)


def key_text(key: rsa.RSAPrivateKey) -> str:
    """A private key as PEM, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def text(thing: x509.Certificate | x509.CertificateRevocationList | x509.CertificateSigningRequest) -> str:
    """As PEM."""
    return thing.public_bytes(serialization.Encoding.PEM).decode()


def name(common_name: str) -> x509.Name:
    """A subject, or an issuer, that is a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def addresses(ips: Iterable[str]) -> x509.SubjectAlternativeName:
    """The extension that makes a certificate valid for these IP addresses."""
    return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips if ip])


def ensure(folder: Path, server_name: str, ips: Iterable[str]) -> bool:
    """Put placeholders into `folder` when it lacks a file that servers cannot start without; whether it did.

    They are of an authority that nobody trusts and whose key is thrown away. What is there already stays, unless it
    could not be used with what is missing: the four files belong together.
    """
    files = Files(folder)
    wanted = (files.ca, files.crl, files.server, files.client)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if all(path.exists() for path in wanted):
        return False
    made = placeholders(server_name, tuple(ips), times.now())
    for path, content in zip(wanted, made, strict=True):
        process.write_atomically(path, content)
    return True


def placeholders(server_name: str, ips: tuple[str, ...], now: datetime) -> tuple[str, str, str, str]:
    """The texts of ca.pem, crl.pem, server.pem and client.pem of an authority of the moment."""
    key, issuer = new_key(), name(PLACEHOLDER_NAME)
    since, until = now - timedelta(days=1), now + PLACEHOLDER_VALIDITY
    ca = (
        _certificate(issuer, issuer, key, since, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(since)
        .next_update(until)
        .sign(key, hashes.SHA256())
    )
    server_key, client_key = new_key(), new_key()
    server = _certificate(name(server_name), issuer, server_key, since, until).add_extension(addresses(ips), False)
    client = _certificate(name(CLIENT_NAME), issuer, client_key, since, until).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
    )
    return (
        text(ca),
        text(crl),
        key_text(server_key) + text(server.sign(key, hashes.SHA256())),
        key_text(client_key) + text(client.sign(key, hashes.SHA256())),
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
