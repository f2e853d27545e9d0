# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may use the control page: sessions in a signed cookie, and forms that count once; nothing is kept on disk.

All keys are made of the page's token: another token ends every session and every form.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.datastructures import Headers

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.tls.challenges import Challenges

LIFETIME = 12 * 3600
"""Seconds that a session lasts."""
_TOKEN_AT_THE_END = re.compile(r"([0-9a-f]{32})\s*\Z")


@dataclass(frozen=True)
class Session:
    """Somebody who has given the token; `key` is known to nobody but us."""

    id: str
    key: bytes

    def guard(self, form: str) -> str:
        """What a form of this session holds, and nobody can guess: it proves that the form is ours."""
        return hmac.new(self.key, f"form {form} {self.id}".encode(), hashlib.sha256).hexdigest()

    def is_guard(self, form: str, given: str) -> bool:
        return equal(self.guard(form), given)


class Forms:
    """Makes forms' numbers, each of which may be used once, within five minutes."""

    def __init__(self, clock: Callable[[], datetime] = times.now) -> None:
        self._challenges = Challenges(clock)

    def number(self) -> str:
        return self._challenges.make()

    def use(self, number: str) -> bool:
        """Whether it is ours, fresh, and was not used; from now on it was."""
        return self._challenges.use(number)


def cookie_name(port: int) -> str:
    """One for each port, as a browser sends a host's cookies to all of its ports."""
    return f"__Host-control-{port}"


def begin(token: str) -> str:
    """A new session's cookie."""
    return _serializer(token).dumps(secrets.token_hex(16))


def find(token: str, cookie: str | None) -> Session | None:
    """The session of a cookie; None for one that is forged, too old, or of another token."""
    try:
        number = _serializer(token).loads(cookie or "", max_age=LIFETIME)
    except BadSignature:
        return None
    return Session(str(number), _key(token))


def _serializer(token: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(_key(token), salt="session", signer_kwargs={"digest_method": hashlib.sha256})


def _key(token: str) -> bytes:
    return hmac.new(token.encode("ascii"), b"session", hashlib.sha256).digest()


def equal(expected: str, given: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def is_token(expected: str, given: str) -> bool:
    """Whether somebody gave the token, or the whole takeover-url."""
    found = _TOKEN_AT_THE_END.search(given[-100:])
    return equal(expected, found[1] if found else "")


def may_read(expected: str, authorization: str) -> bool:
    """Whether an Authorization header has the token, or the one for reading."""
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    # Both are compared always: which one was given takes the same time.
    either = equal(expected, given) | equal(token.read_token(expected), given)
    return scheme.lower() == "bearer" and either


def comes_from_us(headers: Headers | Mapping[str, str]) -> bool:
    """Whether a POST comes from a page of this very server, as far as the browser says.

    Browsers say so themselves (Sec-Fetch-Site); a program has to say Origin. After no-referrer a browser's is null.
    """
    site, origin = headers.get("Sec-Fetch-Site", ""), headers.get("Origin", "")
    own = bool(origin) and urlsplit(origin).netloc == headers.get("Host") and origin.startswith("https://")
    if site:
        return site == "same-origin" and (own or origin in ("", "null"))
    return own
