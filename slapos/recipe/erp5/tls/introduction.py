# SPDX-License-Identifier: GPL-2.0-or-later
"""How partitions that know one secret tell each other of the authorities that they trust; both sides.

The asker sends a proof, and its own authority when it wants to be trusted; the giver answers with all authorities that
it trusts, its own first, proved with the asker's nonce: an older answer does not count. Nothing of it is secret.
"""

import json
import secrets
from collections.abc import Callable
from datetime import datetime

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import join, own, proof, signer, trusted
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.endpoint import Endpoint
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.partition import Partition, Terms
from slapos.recipe.erp5.tls.signer import HEX, Gate, Refused, answered
from slapos.recipe.erp5.tls.trusted import Other

PATH = "/authorities"
LARGEST = 256 << 10
"""Bytes of a request, which has an authority with its revocation lists."""
_REQUEST = b"slapos authorities request v1\0"
_ANSWER = b"slapos authorities answer v1\0"


def _mac(secret: str, purpose: bytes, challenge: str, nonce: str, text: str) -> str:
    return proof.mac(secret, purpose, challenge.encode(), nonce.encode(), text.encode())


# ---- the asker


def ask(giver: Giver, ours: Other | None, clock: Callable[[], datetime] = times.now) -> tuple[Other, ...]:
    """The authorities that the giver trusts, its own first; `ours` is to be trusted too. Raises CertificateError."""
    endpoint = Endpoint(giver.endpoint, unverified(), giver.terms)
    challenge, nonce = join.challenge_of(endpoint), secrets.token_hex(32)
    text = json.dumps(_as_dict(ours)) if ours else ""
    mac = _mac(giver.secret, _REQUEST, challenge, nonce, text)
    body = {"challenge": challenge, "nonce": nonce, "authority": text, "mac": mac, "host": endpoint.host}
    status, answer = endpoint.ask("POST", giver.terms.path + PATH, body)
    if status != 200:
        raise join.refusal(endpoint, status, answer)
    said = answer.get("authorities")
    proved = str(answer.get("mac", ""))
    if not isinstance(said, str) or not proof.equal(_mac(giver.secret, _ANSWER, challenge, nonce, said), proved):
        raise join.unproved(endpoint)
    try:
        return tuple(trusted.checked(one["url"], one["ca"], one["crl"], clock()) for one in json.loads(said))
    except (ValueError, KeyError, TypeError) as error:
        raise CertificateError(f"what {endpoint} says of authorities cannot be used") from error


def _as_dict(one: Other) -> dict[str, str]:
    return {"url": one.url, "ca": one.ca, "crl": one.crl}


# ---- the giver


class Receiver:
    """Answers who asks; `load` and `clock` are those of a Signer, whose gate it has. Any thread may call it."""

    def __init__(
        self,
        load: Callable[[], Partition],
        terms: Terms,
        gate: Gate,
        clock: Callable[[], datetime] = times.now,
    ) -> None:
        self._load, self._terms, self._gate, self._clock = load, terms, gate, clock

    def authorities(self, request: object) -> tuple[int, dict[str, str]]:
        """HTTP status and answer for a decoded request."""
        lost = f"a {self._terms.asker} is not told of authorities"
        return answered(lambda: self._answer(request), lost, f"{self._terms.giver} cannot answer")

    def _answer(self, request: object) -> dict[str, str]:
        challenge, nonce, text, mac, host = _fields(request)
        self._gate.look(challenge)
        config = self._load()
        expected = _mac(config.certificate_secret, _REQUEST, challenge, nonce, text)
        self._gate.enter(challenge, expected, mac, "authorities")
        where = Files(config.tls)
        if text:
            self._trust(where, text)
        ours = Other(own.url(config, signer.our_address(config, host)), *signer.own_trust(where))
        said = json.dumps([_as_dict(one) for one in (ours, *trusted.load(where))])
        return {"authorities": said, "mac": _mac(config.certificate_secret, _ANSWER, challenge, nonce, said)}

    def _trust(self, where: Files, text: str) -> None:
        try:
            said = json.loads(text)
            other = trusted.checked(said["url"], said["ca"], said["crl"], self._clock())
        except (ValueError, KeyError, TypeError, CertificateError) as error:
            reason = str(error) if isinstance(error, CertificateError) else "it is no JSON object of one"
            raise Refused(400, f"the authority cannot be used: {reason}") from error
        if trusted.save(where, other):
            process.log(f"the authority {other.url} of who knows the {self._terms.secret} is trusted")


def _fields(request: object) -> list[str]:
    names = ("challenge", "nonce", "authority", "mac", "host")
    if not isinstance(request, dict) or not all(isinstance(request.get(name), str) for name in names):
        raise Refused(400, f"the request is no JSON object with the texts {', '.join(names)}")
    if not all(HEX.fullmatch(request[name]) for name in ("challenge", "nonce", "mac")):
        raise Refused(400, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each")
    return [request[name] for name in names]
