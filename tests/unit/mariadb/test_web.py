# SPDX-License-Identifier: GPL-2.0-or-later
"""What mariadb-control answers to replicas: routes and sentences; without nginx and without a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.control import web
from slapos.recipe.erp5.mariadb import live
from slapos.recipe.erp5.mariadb import web as replicas
from slapos.recipe.erp5.mariadb.service import MariaDB
from tests.unit.control.asking import ask, raw


class FakeSigner:
    """Knows one challenge, and signs whatever names it."""

    def challenge(self) -> dict:
        return {"challenge": "C"}

    def certificate(self, request: dict) -> tuple[int, dict]:
        if request.get("challenge") != "C":
            return 403, {"error": "the challenge is not one of ours: ask for a new one"}
        return 200, {"certificate": "PEM"}


@pytest.fixture
def made() -> list[Path]:
    """For which configurations a signer was made."""
    return []


@pytest.fixture
def server(tmp_path, made) -> Iterator[web.Server]:
    def make(path: Path) -> FakeSigner:
        made.append(path)
        return FakeSigner()

    class Service(MariaDB):
        def endpoints(self, path: Path):
            return replicas.endpoints(path, make)

    server = web.Server(tmp_path / "s", web.Application(Service(), tmp_path / "mariadb.json"))
    yield server
    server.stop()


@pytest.fixture
def path(server, tmp_path) -> Path:
    return tmp_path / "s"


# ---- routes


def test_the_exchange_of_a_certificate(path, tmp_path, made):
    assert made == [], "what it imports is large"
    assert ask(path, "GET", "/replication/challenge") == (200, {"challenge": "C"})
    assert ask(path, "POST", "/replication/certificate", b'{"challenge": "C"}') == (200, {"certificate": "PEM"})
    assert ask(path, "POST", "/replication/certificate", b"{}") == (
        403,
        {"error": "the challenge is not one of ours: ask for a new one"},
    )
    assert made == [tmp_path / "mariadb.json"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_request_for_a_certificate(path, body):
    assert ask(path, "POST", "/replication/certificate", body) == (400, {"error": "the request is no JSON object"})


@pytest.mark.parametrize(
    ("method", "route", "status"),
    [
        ("POST", "/replication/challenge", 405),
        ("GET", "/replication/certificate", 405),
        ("GET", "/live", 405),
        ("PUT", "/live", 405),
        ("GET", "/", 404),
        ("GET", "/replication/", 404),
        ("POST", "/LIVE", 404),
    ],
)
def test_nothing_else_is_there(path, method, route, status):
    code, answer = ask(path, method, route)
    assert code == status and list(answer) == ["error"]


def test_a_large_body(path):
    body = b'{"challenge": "C", "x": "' + b"x" * (64 << 10) + b'"}'
    assert ask(path, "POST", "/replication/certificate", body)[0] == 413


# ---- a live copy


def test_a_live_copy_is_streamed(path, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "frames", lambda config: (piece for piece in (config, b"2")))
    monkeypatch.setattr(replicas.configuration, "load", lambda path: path.name.encode())
    status, headers, body = raw(path, b"POST /live HTTP/1.1\r\n\r\n")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", b"mariadb.json2")
