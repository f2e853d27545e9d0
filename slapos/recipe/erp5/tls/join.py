# SPDX-License-Identifier: GPL-2.0-or-later
"""The asker's side of the exchange: how a partition gets a certificate of another one's authority.

join() is for the program that makes a replica and for the regular renewal; whoever talks to the giver afterwards, by
HTTPS or PyMySQL, uses context.client_context().
"""

import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import authority, certificates, files, proof, template, waiting
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.endpoint import Endpoint
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.partition import Terms
from slapos.recipe.erp5.tls.template import Template

_ANSWER = ("certificate", "ca", "crl", "caucased-url", "mac")


@dataclass(frozen=True)
class Giver:
    """Another partition whose authority signs for us, into the files `where`.

    `endpoint` is an HTTPS base at which the `secret` proves that we may ask; without one (empty) the request waits at
    the authority `authority_url` for somebody's approval.
    """

    where: Files
    terms: Terms
    endpoint: str
    secret: str = field(repr=False)
    authority_url: str = ""

    @property
    def kind(self) -> Template:
        """What it gives."""
        return template.client(self.terms)


class Pending(CertificateError):
    """A request waits until somebody approves it by hand: nothing is wrong, try again later."""


def needs_join(where: Files, now: datetime, kind: Template = template.CLIENT) -> str:
    """Why the files `where`, such as Files(config.tls).upstream, are of no use to connect with; empty when they are."""
    try:
        known = read_trust(where)
        authority.check(read(where.client), kind, known, now)
    except CertificateError as error:
        return str(error)
    over = any(certificates.list_life_left(one, now) <= 0 for one in known.lists)
    return "the revocation list has expired" if over else ""


def read_trust(where: Files) -> Trust:
    """The authority and its revocation lists as they lie there. Raises CertificateError."""
    known = Trust(read(where.ca), read(where.crl))
    for one in known.lists:
        if certificates.list_issuer(one, known.authorities) is None:
            raise CertificateError(f"{where.crl} is not of the authority in {where.ca}")
    return known


def read(path: Path) -> str:
    """The text of a file. Raises CertificateError when it is missing."""
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise CertificateError(f"{path} is missing") from error


# ---- joining


def join(giver: Giver, clock: Callable[[], datetime] = times.now) -> None:
    """Get a certificate of the giver's authority, and that authority, into `giver.where`.

    By proof of the secret where the giver has an endpoint, and only so: who sits between could say that it cannot be.
    By hand where it has none, and its authority's URL is given. Raises CertificateError, one sentence; Pending while
    nobody has approved the request. Nothing is written unless all of it is good.
    """
    if _refreshed(giver, clock):
        return
    if giver.endpoint:
        _by_proof(giver, clock)
        return
    if not giver.authority_url:
        raise CertificateError(giver.terms.no_endpoint)
    _by_hand(giver, giver.authority_url.rstrip("/"), clock)


def _refreshed(giver: Giver, clock: Callable[[], datetime]) -> bool:
    """Whether our certificate of this giver is good but for its revocation lists, which are fetched anew."""
    noted = record(giver.where)
    if not noted.get("caucased-url") or noted.get("endpoint") != giver.endpoint:
        return False
    try:
        old, client = read_trust(giver.where), read(giver.where.client)
        known = authority.trust(noted["caucased-url"], old.authorities, old.lists, clock())
        authority.check(client, giver.kind, known, clock())
    except CertificateError:
        return False
    write(giver.where, known, client, noted)
    return True


def _by_proof(giver: Giver, clock: Callable[[], datetime]) -> None:
    # We may not know the giver's authority yet; what is learnt here proves itself (proof.py).
    endpoint, key = Endpoint(giver.endpoint, unverified(), giver.terms), files.new_key()
    challenge = challenge_of(endpoint)
    nonce, asked = secrets.token_hex(32), template.request(giver.kind, key)
    public_key = certificates.spki(key.public_key())
    mac = proof.request(giver.secret, challenge, nonce, public_key, giver.kind.subject)
    body = {"challenge": challenge, "nonce": nonce, "csr": asked, "mac": mac, "host": endpoint.host}
    status, answer = endpoint.ask("POST", f"{giver.terms.path}/certificate", body)
    if status != 200:
        raise refusal(endpoint, status, answer)
    _check_proof(endpoint, answer, giver.secret, challenge, nonce, public_key)
    known = Trust(answer["ca"], answer["crl"])
    with _from(str(endpoint)):
        whole = files.key_text(key) + answer["certificate"]
        known = authority.newest(_each(known), known.lists, clock())
        authority.check(whole, giver.kind, known, clock())
    write(giver.where, known, whole, {"caucased-url": answer["caucased-url"], "endpoint": giver.endpoint})


def challenge_of(endpoint: Endpoint) -> str:
    status, answer = endpoint.ask("GET", f"{endpoint.terms.path}/challenge")
    challenge = answer.get("challenge")
    if status != 200 or not isinstance(challenge, str) or len(challenge) != 64:
        raise refusal(endpoint, status, answer)
    return challenge


def refusal(endpoint: Endpoint, status: int, answer: dict[str, Any]) -> CertificateError:
    # Not proved to be the giver's: short, one line, and only said.
    said = " ".join(str(answer.get("error", "it gave no reason")).split())[:300]
    if status == 409:
        return CertificateError(f"{endpoint} gives no certificates: {said}")
    if status == 403:
        return CertificateError(f"{endpoint} refuses our proof ({said}), expected {endpoint.terms.proof}")
    return CertificateError(f"{endpoint} gives no certificate: HTTP status {status}: {said}")


def _check_proof(
    endpoint: Endpoint, answer: dict[str, Any], secret: str, challenge: str, nonce: str, public_key: bytes
) -> None:
    texts = [answer.get(name) for name in _ANSWER]
    if all(isinstance(text, str) and text.isascii() for text in texts):
        *content, mac = map(str, texts)
        if proof.equal(proof.answer(secret, challenge, nonce, public_key, *content), mac):
            return
    raise unproved(endpoint)


def unproved(endpoint: Endpoint) -> CertificateError:
    """What an answer without the right proof is."""
    return CertificateError(
        f"the answer of {endpoint.base} is not proved with the {endpoint.terms.secret}, expected our "
        f"{endpoint.terms.giver}'s: it is another server, or somebody between changed the answer; nothing of it was "
        "used"
    )


def _each(known: Trust) -> list[str]:
    return [files.text(one) for one in known.authorities]


@contextlib.contextmanager
def _from(whom: str):
    """Say of a CertificateError who gave what cannot be used."""
    try:
        yield
    except CertificateError as error:
        raise CertificateError(f"what {whom} gave cannot be used: {error}") from error


def write(where: Files, known: Trust, client: str, record: dict[str, str]) -> None:
    """Replace the files: the authority before what it signed, so that no reader finds less than before."""
    where.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    process.write_atomically(where.ca, known.ca)
    process.write_atomically(where.crl, known.crl)
    process.write_atomically(where.client, client)
    process.write_atomically(where.authority, json.dumps(record, indent=2) + "\n")
    where.pending(where.client).unlink(missing_ok=True)


def record(where: Files) -> dict[str, str]:
    """What `write` noted: `caucased-url`, and `endpoint` when the giver has one; nothing when it cannot be read."""
    try:
        found = json.loads(where.authority.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ---- by hand


def _by_hand(giver: Giver, url: str, clock: Callable[[], datetime]) -> None:
    pending = Files.pending(giver.where.client)
    asked = waiting.request(pending, giver.kind)
    number, certificate = authority.obtain(url, asked)
    if not certificate:
        raise Pending(
            f"our certificate request {number} waits at {url} for somebody's approval: {giver.terms.by_hand}, or have "
            "it signed there; then it goes on by itself"
        )
    with _from(f"the certificate authority {url}"):
        # Nothing proves this authority but that it is the one in the parameters, at this first use.
        known = authority.trust(url, (), (), clock(), first_use=True)
        key = waiting.key_of(pending)
        authority.check(key + certificate, giver.kind, known, clock())
    write(giver.where, known, key + certificate, {"caucased-url": url, "endpoint": ""})
