# SPDX-License-Identifier: GPL-2.0-or-later
"""The exchange of certificates at the authority's own address, for a service that has no other HTTP server (WSGI)."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.tls import introduction
from slapos.recipe.erp5.tls.partition import Partition, Terms
from slapos.recipe.erp5.tls.signer import Signer

Wsgi = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]
REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 409: "Conflict", 503: "Service Unavailable"}


class Exchange:
    """Answers below `terms.path`, and leaves all else to `others`; what it needs of a Partition is read each time."""

    def __init__(
        self, load: Callable[[], Partition], terms: Terms, others: Wsgi, clock: Callable[[], datetime] = times.now
    ) -> None:
        signer = Signer(load, terms, clock)
        receiver = introduction.Receiver(load, terms, signer.gate, clock)
        self._others = others
        self._gets = {f"{terms.path}/challenge": lambda: (200, signer.challenge())}
        self._posts = {
            f"{terms.path}/certificate": signer.certificate,
            f"{terms.path}{introduction.PATH}": receiver.authorities,
        }

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if method == "GET" and path in self._gets:
            status, answer = self._gets[path]()
        elif method == "POST" and path in self._posts:
            status, answer = self._posted(environ, self._posts[path])
        else:
            return self._others(environ, start_response)
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {REASONS[status]}", headers)
        return [body]

    @staticmethod
    def _posted(
        environ: Mapping[str, Any], answer: Callable[[object], tuple[int, dict[str, str]]]
    ) -> tuple[int, dict[str, str]]:
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if not 0 < length <= introduction.LARGEST:
                raise ValueError
            return answer(json.loads(environ["wsgi.input"].read(length)))
        except (ValueError, RecursionError):
            return 400, {"error": f"the request is no JSON of 1 to {introduction.LARGEST} bytes"}
