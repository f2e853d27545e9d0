# SPDX-License-Identifier: GPL-2.0-or-later
"""The giver's side of the exchange: a certificate for whoever proves to know the partition's secret.

For the HTTP server (of any kind), which decodes and encodes JSON and does not let requests above LARGEST_REQUEST in:

    signer = Signer(load, terms, clock)
                                    load() -> Partition, called for each request; clock() -> aware datetime
    signer.challenge() -> dict      the body of the answer 200 to GET .../challenge
    signer.certificate(request: object) -> tuple[int, dict]
                                    status and body for POST .../certificate with the decoded JSON `request`:
                                    200 the certificate, 400 no such request, 403 not proved, 409 not our business,
                                    503 our authority does not answer; all but 200 have {"error": sentence}

Any thread may call both. What is signed is our own template with the key of the request: nothing else of it counts.
"""

import re
from collections.abc import Callable
from datetime import datetime

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError, Error
from slapos.recipe.erp5.tls import certificates, own, proof, template
from slapos.recipe.erp5.tls.challenges import Challenges
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.partition import Partition, Terms

LARGEST_REQUEST = 16 << 10
"""Bytes of a request; one with a key of 8192 bits has 3 KB."""
_FIELDS = ("challenge", "nonce", "csr", "mac")
HEX = re.compile("[0-9a-f]{64}")


class Refused(Exception):
    """An answer that is no certificate: HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Gate:
    """Lets in whoever answers one of our challenges with a proof of the secret, once. Any thread."""

    def __init__(self, terms: Terms, clock: Callable[[], datetime]) -> None:
        self._terms, self._challenges = terms, Challenges(clock)
        self._stale = f"the challenge is not one of this {terms.giver}'s, was used, or is older than 5 minutes"

    def challenge(self) -> dict[str, str]:
        """A challenge to be answered within five minutes, once."""
        return {"challenge": self._challenges.make()}

    def look(self, challenge: str) -> None:
        """Raise Refused unless the challenge may still be used."""
        if not self._challenges.is_open(challenge):
            raise Refused(403, self._stale)

    def enter(self, challenge: str, expected: str, mac: str, what: str) -> None:
        """Raise Refused unless the proof `mac` of who asks for `what` is the `expected` one, and the first."""
        if not proof.equal(expected, mac):
            process.log(f"refused: a request for {what} without proof of the {self._terms.secret}")
            raise Refused(403, f"the proof is not one of this {self._terms.giver}'s {self._terms.secret}")
        if not self._challenges.use(challenge):  # somebody was quicker with the same one
            raise Refused(403, self._stale)


def answered(answer: Callable[[], dict[str, str]], lost: str, cannot: str) -> tuple[int, dict[str, str]]:
    """HTTP status and body: what `answer` gives, or a sentence (`lost` begins the log's, `cannot` the other)."""
    try:
        return 200, answer()
    except Refused as refused:
        return refused.status, {"error": str(refused)}
    except (Error, OSError) as error:
        sentence = process.describe(error)
        process.log(f"error: {lost}: {sentence}")
        return 503, {"error": f"the {cannot}: {sentence}"}


class Signer:
    """See the module's text; `load` may raise ConfigurationError, which is answered with 503."""

    def __init__(self, load: Callable[[], Partition], terms: Terms, clock: Callable[[], datetime] = times.now) -> None:
        self._load, self._terms = load, terms
        self.gate = Gate(terms, clock)

    def challenge(self) -> dict[str, str]:
        """A challenge to be answered within five minutes, once."""
        return self.gate.challenge()

    def certificate(self, request: object) -> tuple[int, dict[str, str]]:
        """Check the request's proof and answer with a certificate, or with one sentence."""
        terms = self._terms
        return answered(
            lambda: self._answer(request), f"no certificate for a {terms.asker}", f"{terms.giver} cannot sign"
        )

    def _answer(self, request: object) -> dict[str, str]:
        fields = _fields(request)
        config = self._load()
        if config.caucased.external_caucased_url:
            raise Refused(
                409,
                f"this {self._terms.giver} uses the certificate authority {own.url(config)}, where it cannot sign: "
                f"{self._terms.external}",
            )
        key = self._proved(fields, config.certificate_secret)
        ca, crl = own_trust(Files(config.tls))
        certificate = _sign(config, fields["csr"])
        url = own.url(config, our_address(config, fields.get("host", "")))
        serial = certificates.certificates(certificate)[0].serial_number
        process.log(
            f"a {self._terms.asker} that knows the {self._terms.secret} got the certificate with serial number {serial}"
        )
        mac = proof.answer(
            config.certificate_secret, fields["challenge"], fields["nonce"], key, certificate, ca, crl, url
        )
        return {"certificate": certificate, "ca": ca, "crl": crl, "caucased-url": url, "mac": mac}

    def _proved(self, fields: dict[str, str], secret: str) -> bytes:
        """The public key of the request, when its sender knows the secret and answers a challenge of ours."""
        self.gate.look(fields["challenge"])
        try:
            asked = certificates.request(fields["csr"])
        except CertificateError as error:
            raise Refused(400, f"the certificate request cannot be used: {error}") from error
        key, subject = certificates.public_key(asked), asked.subject.rfc4514_string()
        expected = proof.request(secret, fields["challenge"], fields["nonce"], key, subject)
        self.gate.enter(fields["challenge"], expected, fields["mac"], "a certificate")
        return key


def _fields(request: object) -> dict[str, str]:
    """The texts of a decoded request: the four that have to be there in their form, and `host`, which may be."""
    if not isinstance(request, dict) or not all(isinstance(request.get(name), str) for name in _FIELDS):
        raise Refused(400, "the request is no JSON object with the texts challenge, nonce, csr and mac")
    if not all(HEX.fullmatch(request[name]) for name in ("challenge", "nonce", "mac")):
        raise Refused(400, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each")
    if len(request["csr"]) > LARGEST_REQUEST or not request["csr"].isascii():
        raise Refused(400, f"the certificate request is longer than {LARGEST_REQUEST} bytes, or not ASCII")
    host = request.get("host", "")
    return {name: request[name] for name in _FIELDS} | {"host": host if isinstance(host, str) else ""}


def our_address(config: Partition, host: str) -> str:
    """The address at which the asker reached us, as it says, when it is one of ours; otherwise the usual one."""
    return host if host in own.addresses(config) else ""


def _sign(config: Partition, request: str) -> str:
    # It takes caucase's client with it, and most certificates are made seldom.
    from slapos.recipe.erp5.tls import authority

    return authority.sign(config, request, template.client(config.terms))


def own_trust(where: Files) -> tuple[str, str]:
    """The certificates and lists of our authority, once they are its own. Raises CertificateError."""
    ca, crl = where.ca.read_text(), where.crl.read_text()
    if any(map(certificates.is_placeholder, certificates.certificates(ca))):
        raise CertificateError("it has no certificates of its own authority yet: wait a minute and try again")
    return ca, crl
