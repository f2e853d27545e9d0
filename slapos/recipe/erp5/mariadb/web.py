# SPDX-License-Identifier: GPL-2.0-or-later
"""What mariadb-control answers to replicas: a certificate for who proves to know the password, and a live copy."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5.control.web import Endpoint, Once, as_json, refusal, stream
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.terms import TERMS


class Signer(Protocol):
    """Answers replicas that want a certificate (tls/signer.py)."""

    def challenge(self) -> dict: ...

    def certificate(self, request: dict) -> tuple[int, dict]: ...


def signer(path: Path) -> Signer:
    """Ours, with the configuration at `path`."""
    from slapos.recipe.erp5.tls.signer import Signer  # with all that cryptography needs

    return Signer(lambda: configuration.load(path), TERMS)


def endpoints(path: Path, make_signer: Callable[[Path], Signer] = signer) -> tuple[Endpoint, ...]:
    """All of them; the signer is made with the first request that needs it, as what it imports is large."""
    the_signer = Once(lambda: make_signer(path))

    def challenge(request: Request) -> Response:
        return as_json(200, the_signer().challenge())

    def certificate(request: Request) -> Response:
        asked = request.get_json(force=True, silent=True)
        if not isinstance(asked, dict):
            return refusal(400, "the request is no JSON object")
        return as_json(*the_signer().certificate(asked))

    def live_copy(request: Request) -> Response:
        """A live copy of the data directory, as live.py has it."""
        from slapos.recipe.erp5.mariadb import live  # with all that reads and writes databases

        return stream(request, live.frames(configuration.load(path)))

    return (
        Endpoint("/replication/challenge", challenge, ("GET",)),
        Endpoint("/replication/certificate", certificate, ("POST",)),
        Endpoint("/live", live_copy, ("POST",)),
    )
