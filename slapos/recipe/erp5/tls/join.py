# SPDX-License-Identifier: GPL-2.0-or-later
"""The replica's side of the exchange: how it gets a certificate of its primary's authority, in `srv/tls/upstream`.

join() is for the program that makes a replica and for the regular renewal; whoever talks to the primary afterwards, by
HTTPS or PyMySQL, uses context.client_context().
"""

import contextlib
import json
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.tls import authority, certificates, files, proof, template, waiting
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.endpoint import Endpoint
from slapos.recipe.erp5.tls.files import Files

_ANSWER = ("certificate", "ca", "crl", "caucased-url", "mac")


class Pending(CertificateError):
    """A request waits until somebody approves it by hand: nothing is wrong, try again later."""


def needs_join(upstream: Files, now: datetime) -> str:
    """Why the files of `upstream` (Files(config.tls).upstream) are of no use to connect with; empty when they are."""
    try:
        known = read_trust(upstream)
        authority.check(read(upstream.client), template.CLIENT, known, now)
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


def join(config: Config, primary: Primary, clock: Callable[[], datetime] = times.now) -> None:
    """Get a certificate of the primary's authority, and that authority, into Files(config.tls).upstream.

    By proof of the replication password where the primary has an endpoint, and only so: who sits between could say that
    it cannot be. By hand where it has none, and `replication.caucased-url` is given. Raises CertificateError, one
    sentence; Pending while nobody has approved the request. Nothing is written unless all of it is good.
    """
    if _refreshed(config, primary, clock):
        return
    if primary.endpoint:
        _by_proof(config, primary, clock)
        return
    url = config.replication.caucased_url.rstrip("/") if config.replication else ""
    if not url:
        raise CertificateError(
            "replication.primary-url has no endpoint in its query, expected the whole replication-primary-url that the "
            "primary publishes; or give replication.caucased-url to have a certificate approved by hand"
        )
    _by_hand(config, url, clock)


def _refreshed(config: Config, primary: Primary, clock: Callable[[], datetime]) -> bool:
    """Whether our certificate of this primary is good but for its revocation lists, which are fetched anew."""
    upstream = Files(config.tls).upstream
    noted = record(upstream)
    if not noted.get("caucased-url") or noted.get("endpoint") != primary.endpoint:
        return False
    try:
        old, client = read_trust(upstream), read(upstream.client)
        known = authority.trust(noted["caucased-url"], old.authorities, old.lists, clock())
        authority.check(client, template.CLIENT, known, clock())
    except CertificateError:
        return False
    write(config, known, client, noted)
    return True


def _by_proof(config: Config, primary: Primary, clock: Callable[[], datetime]) -> None:
    # We may not know the primary's authority yet; what is learnt here proves itself (proof.py).
    endpoint, key = Endpoint(primary.endpoint, unverified()), files.new_key()
    challenge = _challenge(endpoint)
    nonce, asked = secrets.token_hex(32), template.request(template.CLIENT, key)
    public_key = certificates.spki(key.public_key())
    mac = proof.request(primary.password, challenge, nonce, public_key, template.SUBJECT)
    body = {"challenge": challenge, "nonce": nonce, "csr": asked, "mac": mac, "host": endpoint.host}
    status, answer = endpoint.ask("POST", "/replication/certificate", body)
    if status != 200:
        raise _refusal(endpoint, status, answer)
    _check_proof(endpoint, answer, primary.password, challenge, nonce, public_key)
    known = Trust(answer["ca"], answer["crl"])
    with _from(f"the primary's endpoint {endpoint.base}"):
        whole = files.key_text(key) + answer["certificate"]
        known = authority.newest(_each(known), known.lists, clock())
        authority.check(whole, template.CLIENT, known, clock())
    write(config, known, whole, {"caucased-url": answer["caucased-url"], "endpoint": primary.endpoint})


def _challenge(endpoint: Endpoint) -> str:
    status, answer = endpoint.ask("GET", "/replication/challenge")
    challenge = answer.get("challenge")
    if status != 200 or not isinstance(challenge, str) or len(challenge) != 64:
        raise _refusal(endpoint, status, answer)
    return challenge


def _refusal(endpoint: Endpoint, status: int, answer: dict[str, Any]) -> CertificateError:
    # Not proved to be the primary's: short, one line, and only said.
    said = " ".join(str(answer.get("error", "it gave no reason")).split())[:300]
    if status == 409:
        return CertificateError(f"the primary's endpoint {endpoint.base} gives no certificates: {said}")
    if status == 403:
        return CertificateError(
            f"the primary's endpoint {endpoint.base} refuses our proof ({said}), expected it to know the password of "
            "replication.primary-url: give the URL that the primary publishes now"
        )
    return CertificateError(
        f"the primary's endpoint {endpoint.base} gives no certificate: HTTP status {status}: {said}"
    )


def _check_proof(
    endpoint: Endpoint, answer: dict[str, Any], password: str, challenge: str, nonce: str, public_key: bytes
) -> None:
    texts = [answer.get(name) for name in _ANSWER]
    if all(isinstance(text, str) and text.isascii() for text in texts):
        *content, mac = map(str, texts)
        if proof.equal(proof.answer(password, challenge, nonce, public_key, *content), mac):
            return
    raise CertificateError(
        f"the answer of {endpoint.base} is not proved with the replication password, expected our primary's: it is "
        "another server, or somebody between changed the answer; nothing of it was used"
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


def write(config: Config, known: Trust, client: str, record: dict[str, str]) -> None:
    """Replace the files of upstream: the authority before what it signed, so that no reader finds less than before."""
    upstream = Files(config.tls).upstream
    upstream.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    process.write_atomically(upstream.ca, known.ca)
    process.write_atomically(upstream.crl, known.crl)
    process.write_atomically(upstream.client, client)
    process.write_atomically(upstream.authority, json.dumps(record, indent=2) + "\n")
    upstream.pending(upstream.client).unlink(missing_ok=True)


def record(where: Files) -> dict[str, str]:
    """What `write` noted: `caucased-url`, and `endpoint` when the primary has one; nothing when it cannot be read."""
    try:
        found = json.loads(where.authority.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ---- by hand


def _by_hand(config: Config, url: str, clock: Callable[[], datetime]) -> None:
    upstream = Files(config.tls).upstream
    pending = upstream.pending(upstream.client)
    asked = waiting.request(pending, template.CLIENT)
    number, certificate = authority.obtain(url, asked)
    if not certificate:
        raise Pending(
            f"our certificate request {number} waits at {url} for somebody's approval: add our caucased-csr-to-sign to "
            "caucased.csr-to-sign of the primary, or have it signed there; then it goes on by itself"
        )
    with _from(f"the certificate authority {url}"):
        # Nothing proves this authority but that it is the one in the parameters, at this first use.
        known = authority.trust(url, (), (), clock(), first_use=True)
        key = waiting.key_of(pending)
        authority.check(key + certificate, template.CLIENT, known, clock())
    write(config, known, key + certificate, {"caucased-url": url, "endpoint": ""})
