# SPDX-License-Identifier: GPL-2.0-or-later
"""What we ask of a certificate authority over caucase's HTTP API, our own one or another; each answer is checked."""

import contextlib
import functools
import http.client
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from caucase.client import CaucaseClient, CaucaseHTTPError
from cryptography import x509

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.http_limits import body_of, deadline
from slapos.recipe.erp5.tls import certificates, files, own, template
from slapos.recipe.erp5.tls.certificates import Pair
from slapos.recipe.erp5.tls.partition import Partition
from slapos.recipe.erp5.tls.template import Template

TIMEOUT = 10.0
"""Seconds that one step of an exchange may take."""
DEADLINE = 60.0
"""Seconds that one exchange may take, however slowly its answer trickles in."""
LARGEST = 1 << 20
"""Bytes of an answer; a revocation list has about 40 for each certificate in it."""
LARGEST_OF_OURS = 32 << 20
"""The same of our own authority, whose list of waiting requests is filled by anybody: own_authority.py's limits."""
NOT_FOUND, KNOWN, FULL = 404, 409, 507


@dataclass(frozen=True)
class Trust:
    """The certificates and the revocation lists of an authority, as PEM texts: a list for each certificate."""

    ca: str
    crl: str

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        return certificates.certificates(self.ca)

    @property
    def lists(self) -> tuple[x509.CertificateRevocationList, ...]:
        return certificates.revocation_lists(self.crl)


class Client(CaucaseClient):
    """caucase's client of the authority for services, with limits of time and size, which it has none of."""

    HTTPConnection = staticmethod(functools.partial(http.client.HTTPConnection, timeout=TIMEOUT))
    HTTPSConnection = staticmethod(functools.partial(http.client.HTTPSConnection, timeout=TIMEOUT))

    def __init__(self, url: str, known: Sequence[str] = (), user_key: str | None = None) -> None:
        super().__init__(f"{url}/cas", [text.encode() for text in known], user_key)
        self._largest = LARGEST_OF_OURS if user_key else 0

    def _request(self, connection: Any, method: str, url: str, body: Any = None, headers: Any = None) -> Any:
        with deadline(connection, DEADLINE):
            connection.request(method, self._path + url, body, headers or {})
            response = connection.getresponse()
            content = body_of(response, self._largest or LARGEST)
        if response.status == http.client.CREATED:
            return response.getheader("Location")
        if not 200 <= response.status < 300:
            raise CaucaseHTTPError(response.status, response.getheaders(), content[:200])
        return content


@contextlib.contextmanager
def asking(url: str, attempt: str) -> Iterator[None]:
    """Turn whatever can go wrong in an exchange with the authority at `url` into a CertificateError."""
    where = f"cannot {attempt}: the certificate authority {url}"
    try:
        yield
    except CaucaseHTTPError as error:
        raise CertificateError(f"{where} refuses: HTTP status {error.args[0]}") from error
    except CertificateError as error:
        raise CertificateError(f"{where} cannot be used: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        said = process.reason(error)
        raise CertificateError(f"{where} does not answer ({said}), expected it to run and be reachable") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CertificateError(f"{where} answers with something that is not caucase's") from error


# ---- the authority's own certificates, and its revocation lists


def trust(
    url: str,
    known: Iterable[x509.Certificate],
    lists: Iterable[x509.CertificateRevocationList],
    now: datetime,
    first_use: bool = False,
) -> Trust:
    """The authority's present certificates, each newer one signed by one that we know, and their newest lists.

    With `first_use` and nothing known the authority is taken at its word. An older revocation list than one in `lists`
    is not taken: who repeats it may hide a revocation. Raises CertificateError.
    """
    with asking(url, "learn about certificates and revocations"):
        usable = [files.text(one) for one in known if certificates.is_authority(one, now)]
        with contextlib.closing(Client(url, usable)) as client:
            if first_use and not usable:
                usable = [client.getCACertificate().decode("ascii")]
                client._ca_crt_pem_list = [usable[0].encode()]
            if not usable:
                raise CertificateError(
                    "each certificate of it that we know has expired, expected one that is valid: remove "
                    "authority.json beside ca.pem to take the authority at its word once more"
                )
            usable += [text.decode("ascii") for text in client.getCACertificateChain()]
            given = "".join(text.decode("ascii") for text in client.getCertificateRevocationListList())
        return newest(usable, (*lists, *certificates.revocation_lists(given)), now)


def newest(authorities: Iterable[str], lists: Iterable[x509.CertificateRevocationList], now: datetime) -> Trust:
    """The authorities that are valid, and the newest list of each. Raises CertificateError when one is missing."""
    found = {text: certificates.certificates(text)[0] for text in authorities}
    valid = [one for one in found.values() if certificates.is_authority(one, now)]
    if not valid:
        raise CertificateError("none of its certificates is an authority's that is valid now")
    candidates, best = tuple(lists), []
    for authority in valid:
        of_it = [one for one in candidates if certificates.list_issuer(one, [authority])]
        if not of_it:
            raise CertificateError("its revocation list is not signed by the authority that we know")
        best.append(max(of_it, key=_age))
    return Trust("".join(map(files.text, valid)), "".join(map(files.text, best)))


def _age(one: x509.CertificateRevocationList) -> tuple[datetime, int]:
    """Orders the lists of one authority: caucase keeps the time of a list and counts its number up at a revocation."""
    try:
        number = one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    return one.last_update_utc, number


def own_certificates(config: Partition) -> tuple[x509.Certificate, ...]:
    """The certificates of our own authority, as it wrote them down itself. Raises CertificateError."""
    try:
        return certificates.certificates(own.ca(config).read_text())
    except OSError as error:
        raise CertificateError(
            f"our own certificate authority has not begun ({own.ca(config)}: {error.strerror}), expected its "
            f"certificate: read the log of the service {config.terms.authority}"
        ) from error


# ---- certificates


def check(text: str, kind: Template, known: Trust, now: datetime) -> Pair:
    """The key and the certificate of a PEM text, when they are what `kind` says, of a known authority, and valid.

    Raises CertificateError.
    """
    pair = certificates.pair(text)
    check_certificate(pair.certificate, kind, known, now)
    return pair


def check_certificate(certificate: x509.Certificate, kind: Template, known: Trust, now: datetime) -> None:
    """Raise CertificateError unless it is what `kind` says, of a known authority, not revoked, and valid."""
    if not kind.describes(certificate):
        subject = certificate.subject.rfc4514_string()
        raise CertificateError(f"the certificate is of {subject}, expected CN={kind.name} and its addresses")
    if certificates.issuer(certificate, known.authorities) is None:
        raise CertificateError("the certificate is not signed by the authority that we know")
    if certificates.is_revoked(certificate, known.lists):
        raise CertificateError("the certificate is revoked")
    if certificates.life_left(certificate, now) <= 0:
        raise CertificateError(f"the certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def renew(url: str, pair: Pair) -> str:
    """A new key and certificate (PEM) that say what those of `pair`, still valid, do. Raises CertificateError."""
    with asking(url, "renew a certificate"), contextlib.closing(Client(url)) as client:
        key, certificate = client.renewCertificate(pair.certificate, pair.key, files.KEY_SIZE)
        return key.decode("ascii") + certificate.decode("ascii")


def obtain(url: str, request: str) -> tuple[int, str]:
    """The number of our request there, which is handed in when it is not known, and its certificate when it is signed.

    Somebody there has to approve it; until then the text is empty. Raises CertificateError.
    """
    with asking(url, "have a certificate signed"), contextlib.closing(Client(url)) as client:
        number = client.createCertificateSigningRequest(request.encode())
        try:
            return number, client.getCertificate(number).decode("ascii")
        except CaucaseHTTPError as error:
            if error.args[0] != NOT_FOUND:
                raise
            return number, ""


# ---- what only the signing user of our own authority can do


def sign(config: Partition, request: str, kind: Template) -> str:
    """The certificate (PEM) that our own authority makes for the request's key and what `kind` says.

    Raises CertificateError.
    """
    url = own.contact(config)
    with asking(url, "sign a certificate"), contextlib.closing(_signing(config)) as client:
        number = _hand_in(client, request, _wanted(config))
        client.createCertificate(number, template.to_sign(kind).encode())
        text = client.getCertificate(number).decode("ascii")
        found = certificates.certificates(text)[0]
        if certificates.public_key(found) != certificates.public_key(certificates.request(request)):
            raise CertificateError("it signed another key than the one that was asked for")
        if not kind.describes(found):
            raise CertificateError("it signed something else than was asked for")
        return text


def issue(config: Partition, kind: Template) -> str:
    """A new key and certificate (PEM) of our own authority. Raises CertificateError."""
    key = files.new_key()
    return files.key_text(key) + sign(config, template.request(kind, key), kind)


def revoke(config: Partition, serial: int) -> None:
    """Put the certificate with this serial number on our own authority's revocation list. Raises CertificateError."""
    with asking(own.contact(config), "revoke a certificate"), contextlib.closing(_signing(config)) as client:
        try:
            client.revokeSerial(serial)
        except CaucaseHTTPError as error:
            if error.args[0] != KNOWN:  # it was revoked before
                raise


def sign_listed(config: Partition) -> int:
    """Sign the waiting requests with a key of `caucased.csr-to-sign`, as askers get it; how many there were.

    Raises CertificateError.
    """
    wanted, url = _wanted(config), own.contact(config)
    if not wanted or config.caucased.external_caucased_url:
        return 0
    with asking(url, "sign what caucased.csr-to-sign lists"), contextlib.closing(_signing(config)) as client:
        numbers = [number for number, key in _waiting(client) if key in wanted]
        for number in numbers:
            client.createCertificate(number, template.to_sign(template.client(config.terms)).encode())
        return len(numbers)


def _wanted(config: Partition) -> frozenset[bytes]:
    """The public keys of the requests that the parameter lists; what is none is the promise's to tell."""
    keys = set()
    for text in config.caucased.csr_to_sign:
        with contextlib.suppress(CertificateError):
            keys.add(certificates.public_key(certificates.request(text)))
    return frozenset(keys)


def _signing(config: Partition) -> Client:
    if not own.user(config).exists():
        service = config.terms.authority
        raise CertificateError(f"{own.user(config)} is missing, expected it to be made by the service {service}")
    return Client(own.contact(config), user_key=str(own.user(config)))


def _hand_in(client: Client, request: str, wanted: frozenset[bytes]) -> int:
    """The number of a request that is handed in; where anybody filled the list of waiting ones, they go."""
    try:
        return client.createCertificateSigningRequest(request.encode())
    except CaucaseHTTPError as error:
        if error.args[0] != FULL:
            raise
    for number, key in _waiting(client):
        if key not in wanted:
            client.deletePendingCertificateRequest(number)
    return client.createCertificateSigningRequest(request.encode())


def _waiting(client: Client) -> list[tuple[int, bytes]]:
    """The waiting requests: number and public key, empty for one that we would not sign."""
    found = []
    for waiting in client.getPendingCertificateRequestList():
        key = b""
        with contextlib.suppress(CertificateError):
            key = certificates.public_key(certificates.request(waiting["csr"]))
        found.append((int(waiting["id"]), key))
    return found
