# SPDX-License-Identifier: GPL-2.0-or-later
"""What our certificates are to say: a server's, and a replication client's; nothing of it comes from who asks."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from slapos.recipe.erp5.tls import certificates, files, own
from slapos.recipe.erp5.tls.files import CLIENT_NAME
from slapos.recipe.erp5.tls.partition import Partition, Terms


@dataclass(frozen=True)
class Template:
    """The common name, which is the whole subject, and the addresses of a server (none: a client).

    `both`: it is a server's and a client's, wherever it is.
    """

    name: str
    ips: frozenset[str] = frozenset()
    both: bool = False

    @property
    def subject(self) -> str:
        """As proof.request() has it."""
        return files.name(self.name).rfc4514_string()

    @property
    def usages(self) -> list[x509.ObjectIdentifier]:
        server, client = self.both or bool(self.ips), self.both or not self.ips
        return [
            *([ExtendedKeyUsageOID.SERVER_AUTH] if server else []),
            *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else []),
        ]

    def describes(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate says just this."""
        return certificates.common_name(certificate) == self.name and certificates.ips(certificate) == self.ips


CLIENT = Template(CLIENT_NAME)


def client(terms: Terms) -> Template:
    """What askers are given."""
    return Template(terms.client_name, both=terms.client_serves)


def server(config: Partition) -> Template:
    """The certificate of the partition's servers."""
    return of_server(config.terms.server_name, own.addresses(config))


def of_server(name: str, ips: Iterable[str]) -> Template:
    """The certificate of the servers of this name, at these addresses (empty ones are none)."""
    return Template(name, frozenset(str(ipaddress.ip_address(ip)) for ip in ips if ip))


def request(template: Template, key: rsa.RSAPrivateKey) -> str:
    """The certificate request of the holder of `key`."""
    return files.text(_builder(template).sign(key, hashes.SHA256()))


def to_sign(template: Template) -> str:
    """A request to take everything but the key from: it is signed with a key that nobody keeps."""
    return files.text(_builder(template).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))


def _builder(template: Template) -> x509.CertificateSigningRequestBuilder:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(files.name(template.name))
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(template.usages), critical=False)
    )
    return builder.add_extension(files.addresses(sorted(template.ips)), False) if template.ips else builder


def _key_usage() -> x509.KeyUsage:
    others = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    unused = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_encipherment=True, **unused)
