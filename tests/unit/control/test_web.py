# SPDX-License-Identifier: GPL-2.0-or-later
"""What mariadb-control answers on its socket: routes, sentences, limits; without nginx and without a database."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.control import web
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import live

DEADLINE = 30


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

    server = web.Server(tmp_path / "s", web.Application(tmp_path / "mariadb.json", make))
    yield server
    server.stop()


@pytest.fixture
def path(server, tmp_path) -> Path:
    return tmp_path / "s"


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(path))
    return connection


def raw(path: Path, request: bytes) -> tuple[int, dict[str, str], bytes]:
    with connect(path) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)  # a body that nobody wants is read to its end
        return answer(connection)


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    head, _, body = b"".join(iter(lambda: connection.recv(1 << 16), b"")).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def ask(path: Path, method: str, route: str, body: bytes = b"") -> tuple[int, dict]:
    head = f"{method} {route} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    status, headers, content = raw(path, head.encode() + body)
    assert headers["content-type"] == "application/json"
    return status, json.loads(content)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"x\r\n\r\n", b"GET //[ HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_request_at_all(path, request_, capsys):
    with connect(path) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert ask(path, "GET", "/replication/challenge")[0] == 200
    assert "[" not in capsys.readouterr().err, "nothing of a request is logged"


# ---- a live copy


class Pieces:
    """Stands for live.frames(): yields until it is closed, or raises `error` first."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.closed, self.sent = error, threading.Event(), 0

    def __call__(self, config) -> Iterator[bytes]:
        try:
            if self.error:
                raise self.error
            while self.sent < 1000:
                self.sent += 1
                yield b"x" * 100_000
        finally:
            self.closed.set()


@pytest.fixture
def pieces(monkeypatch) -> Pieces:
    made = Pieces()
    monkeypatch.setattr(live, "frames", made)
    monkeypatch.setattr(web.configuration, "load", lambda path: None)
    return made


def test_a_live_copy_is_streamed(path, pieces):
    status, headers, body = raw(path, b"POST /live HTTP/1.1\r\n\r\n")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", b"x" * 100_000_000)
    assert "transfer-encoding" not in headers and "content-length" not in headers
    assert pieces.closed.is_set()


def test_its_client_goes_away(path, pieces):
    with connect(path) as connection:
        connection.sendall(b"POST /live HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 200"
    assert pieces.closed.wait(DEADLINE)
    assert pieces.sent < 100


def test_its_client_does_not_read(path, pieces, monkeypatch):
    monkeypatch.setattr(web, "LIVE_TIMEOUT", 0.1)
    with connect(path) as connection:
        connection.sendall(b"POST /live HTTP/1.0\r\n\r\n")
        assert pieces.closed.wait(DEADLINE)


def test_the_server_is_stopped_meanwhile(server, path, pieces):
    with connect(path) as connection:
        connection.sendall(b"POST /live HTTP/1.0\r\n\r\n")
        connection.recv(12)
        server.stop()
        assert pieces.closed.wait(DEADLINE)


@pytest.mark.parametrize(
    ("error", "retry"),
    [(Busy("wait for it"), "60"), (ServerError("wait for it"), None), (OSError("wait for it"), None)],
)
def test_it_cannot_begin(path, pieces, error, retry):
    pieces.error = error
    status, headers, body = raw(path, b"POST /live HTTP/1.0\r\n\r\n")
    assert (status, headers.get("retry-after"), json.loads(body)) == (503, retry, {"error": "wait for it"})


def test_an_unexpected_error_says_nothing_of_the_request(path, pieces, capsys):
    pieces.error = ValueError("unforeseen")
    assert raw(path, b"POST /live?SECRET HTTP/1.0\r\nSECRET: SECRET\r\n\r\n")[0] == 500
    (line,) = capsys.readouterr().err.splitlines()
    assert line.split(" ", 2)[2] == "error: unexpected, in the answer to a request: ValueError: unforeseen"


# ---- the socket


def test_only_for_us(path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_takes_the_place_of_what_a_killed_one_left(path, server, tmp_path):
    again = web.Server(path, web.Application(tmp_path / "c", lambda path: FakeSigner()))
    assert ask(path, "GET", "/replication/challenge")[0] == 200
    again.stop()


def test_a_few_at_once(path, server):
    with_room = [connect(path) for _ in range(web.AT_ONCE)]
    eventually(lambda: len(server._connections) == web.AT_ONCE)
    with connect(path) as one_more:
        assert one_more.recv(1) == b""
    for connection in with_room:
        connection.close()
    eventually(lambda: not server._connections)
    assert ask(path, "GET", "/replication/challenge")[0] == 200


def test_one_that_says_nothing_is_dropped(path, monkeypatch):
    monkeypatch.setattr(web.Handler, "timeout", 0.1)
    with connect(path) as connection:
        connection.sendall(b"GET /replication/challenge HT")
        assert connection.recv(1) == b""


def test_a_door_that_cannot_open_is_tried_again(tmp_path, monkeypatch):
    class Config:
        control_socket = tmp_path / "folder" / "s"

    monkeypatch.setattr(web.configuration, "load", lambda path: Config)
    door = web.Door(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        door.open()
    Config.control_socket.parent.mkdir()
    door.open()
    door.open()
    assert ask(Config.control_socket, "POST", "/replication/challenge")[0] == 405
    door.close()
    with pytest.raises(OSError):
        connect(Config.control_socket)
