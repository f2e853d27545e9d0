# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks another instance to do something, in the name of whoever was given that instance's takeover-url.

Certificates are not looked at: what is asked and what is answered prove themselves (peer_proof.py), whoever is between.
"""

import contextlib
import http.client
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import peer_proof
from slapos.recipe.erp5.errors import ConfigurationError, Error, Unreachable
from slapos.recipe.erp5.http_limits import body_of, deadline
from slapos.recipe.erp5.tls.context import unverified

TIMEOUT = 10.0
"""Seconds that an answer may take, unless it is said otherwise."""
LARGEST = 64 << 10
"""Bytes of an answer."""
_FRESH = 240.0
"""Seconds for which a challenge is used that was fetched beforehand; it counts for 300."""
_IDLE = 30.0
"""Seconds after which a connection that was not used is made anew."""
_SHAPE = "https://HOST:PORT/#TOKEN as the instance publishes it"


class PeerUnreachable(Unreachable):
    """Nobody, or nobody who proves to be it, answers: what was asked may have been done or not."""


class PeerRefused(Error):
    """The other instance says no; `proved`: it is really that instance.

    `busy`: only because it is at something else right now.
    """

    def __init__(self, sentence: str, proved: bool = True, busy: bool = False) -> None:
        super().__init__(sentence)
        self.proved, self.busy = proved, busy


def parse(url: str, parameter: str = "the control URL") -> tuple[str, str]:
    """Base (https://host:port) and secret of a takeover-url. Raises ConfigurationError, which quotes nothing of it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "https" or not host or not port or parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigurationError(f"{parameter}: it is no takeover-url, expected {_SHAPE}")
    if not peer_proof.SECRET.fullmatch(parts.fragment):
        raise ConfigurationError(f"{parameter}: it has no token of 32 hexadecimal digits behind #, expected {_SHAPE}")
    return f"https://{parts.netloc}", parts.fragment


class Peer:
    """Another instance, by its takeover-url. It keeps a connection: close() it, or use it in a `with`; one thread."""

    def __init__(self, url: str, parameter: str = "the control URL") -> None:
        self.base, self._secret = parse(url, parameter)
        self._connection: http.client.HTTPSConnection | None = None
        self._challenge, self._fetched, self._used = "", 0.0, 0.0

    @property
    def address(self) -> str:
        """Its `host:port`, for messages."""
        return self.base.removeprefix("https://")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Raises nothing."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def hand_over_secret(self, nonce: str) -> str:
        """The secret of a hand-over that this instance is asked for with `nonce`."""
        return peer_proof.hand_over(self._secret, nonce)

    def ready(self, timeout: float = TIMEOUT) -> None:
        """Connect and fetch a challenge, so that the next call() is one round trip. Raises PeerUnreachable."""
        if time.monotonic() - self._used > _IDLE:
            self.close()  # the other side may have closed it by now
        status, answer = self._exchange("GET", "/peer/challenge", None, timeout)
        challenge = answer.get("challenge")
        if status != 200 or not isinstance(challenge, str) or len(challenge) != 64:
            raise PeerUnreachable(
                f"{self.address} answers with HTTP status {status} and no challenge ({_said(answer)}), expected an "
                "instance's control page: compare the control URL with its takeover-url"
            )
        self._challenge, self._fetched = challenge, time.monotonic()

    def call(self, name: str, parameters: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
        """Have it do `name`, and return its result. Raises PeerUnreachable, PeerRefused."""
        if not self._challenge or time.monotonic() - self._fetched > _FRESH:
            self.ready(timeout)
        challenge, self._challenge = self._challenge, ""
        nonce = secrets.token_hex(32)
        mac = peer_proof.request(self._secret, challenge, nonce, name, parameters)
        body = {"challenge": challenge, "nonce": nonce, "parameters": parameters, "mac": mac}
        status, answer = self._exchange("POST", f"/peer/{name}", body, timeout)
        proof, content = str(answer.pop("mac", "")), answer
        proved = peer_proof.equal(peer_proof.answer(self._secret, challenge, nonce, name, content), proof)
        if "error" in content:
            raise PeerRefused(
                f"{self.address} {'says' if proved else 'refuses'}: {_said(content)}", proved, bool(content.get("busy"))
            )
        if not proved or not isinstance(content.get("result"), dict):
            raise PeerUnreachable(
                f"the answer of {self.address} (HTTP status {status}) is not proved with its token, expected the "
                "instance of the control URL: it is another one, or somebody between changed the answer"
            )
        return content["result"]

    def _exchange(self, method: str, path: str, body: object, timeout: float) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON object of the answer. Raises PeerUnreachable."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        with self._reaching():
            connection = self._connected(timeout)
            with deadline(connection, timeout):
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                status, text = response.status, body_of(response, LARGEST)
        self._used = time.monotonic()
        try:
            decoded = json.loads(text)
        except (ValueError, RecursionError):
            decoded = None
        return status, decoded if isinstance(decoded, dict) else {"error": f"HTTP status {status} and no JSON object"}

    def _connected(self, timeout: float) -> http.client.HTTPSConnection:
        if self._connection is None:
            parts = urlsplit(self.base)
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout, context=unverified()
            )
        self._connection.timeout = timeout
        if self._connection.sock:
            self._connection.sock.settimeout(timeout)
        return self._connection

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise PeerUnreachable(
                f"{self.address} does not answer ({process.reason(error)}), expected its control page to run and be "
                "reachable"
            ) from error


def _said(answer: dict[str, Any]) -> str:
    """What an answer gives as its reason: short and one line, as it may be anybody's."""
    return " ".join(str(answer.get("error", "it gave no reason")).split())[:600]
