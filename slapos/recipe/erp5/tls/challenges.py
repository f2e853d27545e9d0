# SPDX-License-Identifier: GPL-2.0-or-later
"""Challenges that each count once and for five minutes, of which none has to be kept until it is answered.

A challenge holds its time and a mark of ours, so that only those that were answered with a good proof are kept: nobody
else can fill our memory, nor push out the challenges of others by asking for many.
"""

import hashlib
import hmac
import secrets
import struct
import threading
from collections.abc import Callable
from datetime import datetime

LIFETIME = 300
"""Seconds from its making in which a challenge may be used."""
_HEAD, _MARK = 16, 16


class Challenges:
    """Makes and takes challenges; one process, any thread. `clock` says the time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._key = secrets.token_bytes(32)
        self._used: dict[bytes, int] = {}

    def make(self) -> str:
        """A new challenge: 32 bytes as hexadecimal digits."""
        head = struct.pack(">Q", self._now()) + secrets.token_bytes(_HEAD - 8)
        return (head + self._mark(head)).hex()

    def is_open(self, challenge: str) -> bool:
        """Whether we made it less than five minutes ago, and it was not used."""
        content = _bytes(challenge)
        head = content[:_HEAD]
        if len(content) != _HEAD + _MARK or not hmac.compare_digest(content[_HEAD:], self._mark(head)):
            return False
        age = self._now() - struct.unpack(">Q", head[:8])[0]
        return 0 <= age < LIFETIME and content not in self._used

    def use(self, challenge: str) -> bool:
        """Whether it could be used; from now on it cannot. Only for who has proved to be entitled."""
        with self._lock:
            if not self.is_open(challenge):
                return False
            oldest = self._now() - LIFETIME
            self._used = {content: made for content, made in self._used.items() if made > oldest}
            content = _bytes(challenge)
            self._used[content] = struct.unpack(">Q", content[:8])[0]
            return True

    def _mark(self, head: bytes) -> bytes:
        return hmac.new(self._key, head, hashlib.sha256).digest()[:_MARK]

    def _now(self) -> int:
        return int(self._clock().timestamp())


def _bytes(challenge: str) -> bytes:
    """The bytes that hexadecimal digits mean: two texts for one challenge (capital letters) are the same one."""
    try:
        return bytes.fromhex(challenge)
    except ValueError:
        return b""
