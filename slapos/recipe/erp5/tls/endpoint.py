# SPDX-License-Identifier: GPL-2.0-or-later
"""Small exchanges of JSON with another partition's endpoint, with limits of time and size."""

import contextlib
import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.http_limits import body_of, deadline
from slapos.recipe.erp5.tls import authority
from slapos.recipe.erp5.tls.partition import Terms


class Endpoint:
    """The HTTP or HTTPS base, such as https://[::1]:22000, of who is the giver in `terms`.

    It is asked with the TLS of `context`.
    """

    def __init__(self, base: str, context: ssl.SSLContext, terms: Terms) -> None:
        self.base, self.context, self.terms = base, context, terms

    def __str__(self) -> str:
        """What sentences call it."""
        return f"the {self.terms.giver}'s endpoint {self.base}"

    @property
    def host(self) -> str:
        """Its address without brackets."""
        return urlsplit(self.base).hostname or ""

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """HTTP status and decoded JSON object of the answer. Raises CertificateError when there is no such answer."""
        content = None if body is None else json.dumps(body).encode()
        try:
            status, answer = self._exchange(method, path, content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CertificateError(
                f"{self} does not answer ({process.reason(error)}), expected it to run and be reachable"
            ) from error
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise CertificateError(
                f"{self} answers with HTTP status {status} and no JSON object, expected {self.terms.endpoint}"
            )
        return status, decoded

    def _exchange(self, method: str, path: str, content: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(self.base)
        connection = (
            http.client.HTTPSConnection(self.host, parts.port or 443, timeout=authority.TIMEOUT, context=self.context)
            if parts.scheme == "https"
            # Where all that matters is proved in what is said (join.py, introduction.py), the wire need not be.
            else http.client.HTTPConnection(self.host, parts.port or 80, timeout=authority.TIMEOUT)
        )
        headers = {"Content-Type": "application/json"} if content is not None else {}
        with contextlib.closing(connection), deadline(connection, authority.DEADLINE):
            connection.request(method, parts.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            return response.status, body_of(response, authority.LARGEST)
