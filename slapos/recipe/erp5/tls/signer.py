# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary's side of the exchange: a certificate for whoever proves to know the replication password.

For the HTTP server (of any kind), which decodes and encodes JSON and does not let requests above LARGEST_REQUEST in:

    signer = Signer(load, clock)    load() -> Config, called for each request; clock() -> aware datetime
    signer.challenge() -> dict      the body of the answer 200 to GET /replication/challenge
    signer.certificate(request: object) -> tuple[int, dict]
                                    status and body for POST /replication/certificate with the decoded JSON `request`:
                                    200 the certificate, 400 no such request, 403 not proved, 409 not our business,
                                    503 our authority does not answer; all but 200 have {"error": sentence}

Any thread may call both. What is signed is our own template with the key of the request: nothing else of it counts.
"""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError, Error
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import certificates, own, proof, template
from slapos.recipe.erp5.tls.challenges import Challenges
from slapos.recipe.erp5.tls.files import Files

LARGEST_REQUEST = 16 << 10
"""Bytes of a request; one with a key of 8192 bits has 3 KB."""
_FIELDS = ("challenge", "nonce", "csr", "mac")
_HEX = re.compile("[0-9a-f]{64}")


class Refused(Exception):
    """An answer that is no certificate: HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Signer:
    """See the module's text; `load` may raise ConfigurationError, which is answered with 503."""

    def __init__(self, load: Callable[[], Config], clock: Callable[[], datetime] = times.now) -> None:
        self._load = load
        self._challenges = Challenges(clock)

    def challenge(self) -> dict[str, str]:
        """A challenge to be answered within five minutes, once."""
        return {"challenge": self._challenges.make()}

    def certificate(self, request: object) -> tuple[int, dict[str, str]]:
        """Check the request's proof and answer with a certificate, or with one sentence."""
        try:
            return 200, self._answer(request)
        except Refused as refused:
            return refused.status, {"error": str(refused)}
        except (Error, OSError) as error:
            sentence = process.describe(error)
            process.log(f"error: no certificate for a replica: {sentence}")
            return 503, {"error": f"the primary cannot sign: {sentence}"}

    def _answer(self, request: object) -> dict[str, str]:
        fields = _fields(request)
        config = self._load()
        if config.caucased.external_caucased_url:
            raise Refused(
                409,
                f"this primary uses the certificate authority {own.url(config)}, where it cannot sign: give "
                "replication.primary-url without its query, that URL as replication.caucased-url, and have the request "
                "approved there",
            )
        key = self._proved(fields, config.secrets.replication_password)
        where = Files(config.tls)
        ca, crl = _read(where.ca), _read(where.crl)
        certificate = _sign(config, fields["csr"])
        url = own.url(config, _our_address(config, fields.get("host", "")))
        serial = certificates.certificates(certificate)[0].serial_number
        process.log(f"a replica that knows the replication password got the certificate with serial number {serial}")
        mac = proof.answer(
            config.secrets.replication_password, fields["challenge"], fields["nonce"], key, certificate, ca, crl, url
        )
        return {"certificate": certificate, "ca": ca, "crl": crl, "caucased-url": url, "mac": mac}

    def _proved(self, fields: dict[str, str], password: str) -> bytes:
        """The public key of the request, when its sender knows the password and answers a challenge of ours."""
        if not self._challenges.is_open(fields["challenge"]):
            raise Refused(403, "the challenge is not one of this primary's, was used, or is older than 5 minutes")
        try:
            asked = certificates.request(fields["csr"])
        except CertificateError as error:
            raise Refused(400, f"the certificate request cannot be used: {error}") from error
        key, subject = certificates.public_key(asked), asked.subject.rfc4514_string()
        expected = proof.request(password, fields["challenge"], fields["nonce"], key, subject)
        if not proof.equal(expected, fields["mac"]):
            process.log("refused: a request for a certificate without proof of the replication password")
            raise Refused(403, "the proof is not one of this primary's replication password")
        if not self._challenges.use(fields["challenge"]):  # somebody was quicker with the same one
            raise Refused(403, "the challenge is not one of this primary's, was used, or is older than 5 minutes")
        return key


def _fields(request: object) -> dict[str, str]:
    """The texts of a decoded request: the four that have to be there in their form, and `host`, which may be."""
    if not isinstance(request, dict) or not all(isinstance(request.get(name), str) for name in _FIELDS):
        raise Refused(400, "the request is no JSON object with the texts challenge, nonce, csr and mac")
    if not all(_HEX.fullmatch(request[name]) for name in ("challenge", "nonce", "mac")):
        raise Refused(400, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each")
    if len(request["csr"]) > LARGEST_REQUEST or not request["csr"].isascii():
        raise Refused(400, f"the certificate request is longer than {LARGEST_REQUEST} bytes, or not ASCII")
    host = request.get("host", "")
    return {name: request[name] for name in _FIELDS} | {"host": host if isinstance(host, str) else ""}


def _our_address(config: Config, host: str) -> str:
    """The address at which the replica reached us, as it says, when it is one of ours; otherwise the usual one."""
    return host if host in own.addresses(config) else ""


def _sign(config: Config, request: str) -> str:
    # It takes caucase's client with it, and most replicas are made seldom.
    from slapos.recipe.erp5.tls import authority

    return authority.sign(config, request, template.CLIENT)


def _read(path: Path) -> str:
    """One of our own files, once it is our authority's."""
    text = path.read_text()
    if path.name == "ca.pem" and any(map(certificates.is_placeholder, certificates.certificates(text))):
        raise CertificateError("it has no certificates of its own authority yet: wait a minute and try again")
    return text
