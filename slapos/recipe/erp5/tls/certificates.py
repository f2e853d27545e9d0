# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads keys, certificates and revocation lists from PEM texts, and tells whether they belong together."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls.files import PLACEHOLDER_NAME

RENEW_UNDER = 1 / 3
"""A certificate with less of its life left than this is renewed."""
ALARM_UNDER = 1 / 4
"""With less than this its renewal must have failed for days: caucase's last 93 days."""
SMALLEST_KEY, LARGEST_KEY = 2048, 8192
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n.*?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate; the rest of the file's certificates, if any, are not looked at."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def pair(text: str) -> Pair:
    """Read a PEM text with one private key and its certificate. Raises CertificateError when they are no pair."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
        certificate = x509.load_pem_x509_certificate(text.encode())
        matching = public_key(certificate) == spki(key.public_key())
    except (ValueError, TypeError) as error:
        raise CertificateError("it holds no private key with its certificate") from error
    if not matching or not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("its certificate is not its key's")
    return Pair(key, certificate)


def certificates(text: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text, at least one. Raises CertificateError."""
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError as error:
        raise CertificateError("it holds no certificate that can be read") from error


def revocation_lists(text: str) -> tuple[x509.CertificateRevocationList, ...]:
    """All revocation lists of a PEM text, at least one. Raises CertificateError."""
    try:
        found = tuple(x509.load_pem_x509_crl(part.encode()) for part in parts(text, "X509 CRL"))
    except ValueError as error:
        raise CertificateError("it holds a revocation list that cannot be read") from error
    if not found:
        raise CertificateError("it holds no revocation list")
    return found


def request(text: str) -> x509.CertificateSigningRequest:
    """Read a certificate request whose sender has its key, a usual one. Raises CertificateError."""
    try:
        found = x509.load_pem_x509_csr(text.encode())
        key = found.public_key()
    except Exception as error:  # cryptography has its own for keys that it does not know
        raise CertificateError("it is no certificate request in PEM") from error
    # Before the signature is looked at: with a key of its sender's choice that may take long.
    if not (_is_usual_rsa(key) or isinstance(key, ec.EllipticCurvePublicKey)):
        raise CertificateError(f"its key is not RSA of {SMALLEST_KEY} to {LARGEST_KEY} bits, nor one on a known curve")
    if not found.is_signature_valid:
        raise CertificateError("its signature is not its key's")
    return found


def _is_usual_rsa(key: object) -> bool:
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    return SMALLEST_KEY <= key.key_size <= LARGEST_KEY and key.public_numbers().e == 65537


def parts(text: str, kind: str) -> list[str]:
    """The PEM blocks of one kind, such as CERTIFICATE."""
    return [match[0] for match in _PEM.finditer(text) if match[1] == kind]


def spki(key: object) -> bytes:
    """A public key as bytes (DER), which are equal for equal keys."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def public_key(thing: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """The public key of a certificate or request, as spki() has it."""
    return spki(thing.public_key())


def fingerprint(*texts: str | bytes) -> str:
    """What differs when any of the texts does."""
    digests = (hashlib.sha256(text.encode() if isinstance(text, str) else text).digest() for text in texts)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def life_left(certificate: x509.Certificate, now: datetime) -> float:
    """Which part of its whole life a certificate has before it; not above 0 for one that expired."""
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (until - now) / max(until - since, until.resolution)


def list_life_left(one: x509.CertificateRevocationList, now: datetime) -> float:
    """The same of a revocation list, whose end is when the next one is promised for."""
    since, until = one.last_update_utc, one.next_update_utc
    return (until - now) / max(until - since, until.resolution) if until else 1.0


def is_placeholder(certificate: x509.Certificate) -> bool:
    """Whether it is of the authority that files.placeholders() makes, which nobody trusts."""
    names = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [name.value for name in names] == [PLACEHOLDER_NAME]


def issuer(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Which of `authorities` signed the certificate."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return authority
    return None


def list_issuer(
    one: x509.CertificateRevocationList, authorities: Iterable[x509.Certificate]
) -> x509.Certificate | None:
    """Which of `authorities` signed the revocation list."""
    for authority in authorities:
        key = authority.public_key()
        if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and one.is_signature_valid(key):
            return authority
    return None


def is_authority(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is a certificate authority's own certificate that may be used now."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    signed = issuer(certificate, [certificate]) is not None
    return constraints.ca and signed and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def ips(certificate: x509.Certificate | x509.CertificateSigningRequest) -> frozenset[str]:
    """The IP addresses that a server's certificate is valid for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(address) for address in names.get_values_for_type(x509.IPAddress))


def common_name(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The whole subject when it is a common name alone, otherwise what no name of ours is."""
    attributes = list(certificate.subject)
    alone = len(attributes) == 1 and attributes[0].oid == NameOID.COMMON_NAME
    return str(attributes[0].value) if alone else ""


def is_revoked(certificate: x509.Certificate, lists: Iterable[x509.CertificateRevocationList]) -> bool:
    """Whether one of `lists`, of the certificate's issuer, has it."""
    return is_listed(certificate.serial_number, (one for one in lists if one.issuer == certificate.issuer))


def is_listed(serial: int, lists: Iterable[x509.CertificateRevocationList]) -> bool:
    """Whether one of `lists` has the certificate with this serial number."""
    return any(one.get_revoked_certificate_by_serial_number(serial) is not None for one in lists)
