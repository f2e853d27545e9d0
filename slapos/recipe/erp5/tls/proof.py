# SPDX-License-Identifier: GPL-2.0-or-later
"""How primary and replica prove to each other that they know the replication password, without sending it.

Both proofs are HMAC-SHA256 with the password as key, over a text of their own and all that is to be trusted, each part
preceded by its length. They are as hard to forge as the password is to guess: it has to be random.
"""

import hashlib
import hmac
import struct

_REQUEST = b"slapos replication request v1\0"
_ANSWER = b"slapos replication answer v1\0"


def request(password: str, challenge: str, nonce: str, public_key: bytes, subject: str) -> str:
    """The replica's proof, in hexadecimal digits: this key (DER) asks for a certificate of this subject (RFC 4514)."""
    return mac(password, _REQUEST, challenge.encode(), nonce.encode(), _digest(public_key), subject.encode())


def answer(
    password: str, challenge: str, nonce: str, public_key: bytes, certificate: str, ca: str, crl: str, caucased_url: str
) -> str:
    """The primary's proof: this certificate, this authority and this revocation list are its answer to that request."""
    texts = (_digest(text.encode()) for text in (certificate, ca, crl))
    parts = (challenge.encode(), nonce.encode(), _digest(public_key), *texts, caucased_url.encode())
    return mac(password, _ANSWER, *parts)


def equal(one: str, other: str) -> bool:
    """Whether two proofs are the same, in a time that says nothing about where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def mac(password: str, purpose: bytes, *parts: bytes) -> str:
    """HMAC-SHA256 of `parts`, in hexadecimal digits; with another `purpose` it is another one."""
    whole = purpose + b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return hmac.new(password.encode("utf-8"), whole, hashlib.sha256).hexdigest()
