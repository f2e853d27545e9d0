# SPDX-License-Identifier: GPL-2.0-or-later
"""How two partitions prove to each other that they know a secret of 128 bits, without ever sending it.

The secret is the token of the instance that is asked, or, for one hand-over alone, what both derive from that token.
"""

import hashlib
import json
import re

from slapos.recipe.erp5.tls import proof

SECRET = re.compile("[0-9a-f]{32}")
_REQUEST = b"slapos peer request v1\0"
_ANSWER = b"slapos peer answer v1\0"
_HAND_OVER = b"slapos peer hand-over v1\0"


def request(secret: str, challenge: str, nonce: str, name: str, parameters: dict) -> str:
    """The proof of who asks: these parameters, for this action, once."""
    return proof.mac(secret, _REQUEST, challenge.encode(), nonce.encode(), name.encode(), _text(parameters))


def answer(secret: str, challenge: str, nonce: str, name: str, content: dict) -> str:
    """The proof of who answers: this is the answer to that very request."""
    return proof.mac(secret, _ANSWER, challenge.encode(), nonce.encode(), name.encode(), _text(content))


def equal(one: str, other: str) -> bool:
    """Whether two proofs are the same, in a time that says nothing about where they differ."""
    return proof.equal(one, other)


def hand_over(token: str, nonce: str) -> str:
    """The secret of one hand-over: both sides have it, and nobody who only sees the requests go by."""
    return proof.mac(token, _HAND_OVER, nonce.encode())[:32]


def public_name(secret: str) -> str:
    """What a hand-over is called where others may listen: it tells nothing of its secret."""
    return hashlib.sha256(b"slapos peer name v1\0" + secret.encode()).hexdigest()[:32]


def _text(content: dict) -> bytes:
    """One text for one JSON object, whatever its order and spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
