# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control process answers on its socket: routes, sentences, limits; without nginx, and of no real service."""

import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.control import peer_proof, web
from slapos.recipe.erp5.errors import Busy, ServerError
from tests.unit.control.asking import DEADLINE, ask, connect, raw
from tests.unit.control.fake import service as fake
from tests.unit.control.fake.service import Lamp


@pytest.fixture
def lamp(tmp_path) -> Lamp:
    lamp = Lamp()
    fake.partition(tmp_path / "p")
    return lamp


@pytest.fixture
def json_path(tmp_path) -> Path:
    return tmp_path / "p" / "etc" / "lamp.json"


@pytest.fixture
def server(lamp, tmp_path, json_path) -> Iterator[web.Server]:
    server = web.Server(tmp_path / "s", web.Application(lamp, json_path))
    yield server
    server.stop()


@pytest.fixture
def path(server, tmp_path) -> Path:
    return tmp_path / "s"


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- routes


def test_what_a_service_answers_beside_the_rest(path):
    status, headers, body = raw(path, b"GET /lamp HTTP/1.0\r\n\r\n")
    assert (status, body) == (200, b"light")
    assert headers["server"] == "lamp-control"


def test_other_instances_are_answered(path, lamp):
    status, answer = ask(path, "GET", "/control/peer/challenge")
    assert status == 200
    challenge, nonce = answer["challenge"], "ab" * 32
    mac = peer_proof.request(fake.TOKEN, challenge, nonce, "look", {})
    body = {"challenge": challenge, "nonce": nonce, "parameters": {}, "mac": mac}
    status, answer = ask(path, "POST", "/control/peer/look", json.dumps(body).encode())
    assert (status, answer["result"], lamp.asked) == (200, {"on": False}, [("look", {})])


def test_the_page_is_made_with_the_first_request_for_it(lamp, tmp_path, json_path):
    made = []

    class Pages:
        def answer(self, request):
            return web.as_json(200, {"path": request.path})

    def make() -> Pages:
        made.append(1)
        return Pages()

    server = web.Server(tmp_path / "t", web.Application(lamp, json_path, make))
    assert raw(tmp_path / "t", b"GET /lamp HTTP/1.0\r\n\r\n")[0] == 200 and made == []
    for route in ("/control/", "/control/action/x", "/control/"):
        assert ask(tmp_path / "t", "GET", route) == (200, {"path": route})
    assert made == [1]
    server.stop()


@pytest.mark.parametrize(
    ("method", "route", "status"),
    [
        ("POST", "/lamp", 405),
        ("GET", "/control/peer/look", 405),
        ("POST", "/control/peer/challenge/", 404),
        ("GET", "/", 404),
        ("GET", "/control/", 404),
        ("GET", "/LAMP", 404),
    ],
)
def test_nothing_else_is_there(path, method, route, status):
    code, answer = ask(path, method, route)
    assert code == status and list(answer) == ["error"]


def test_a_large_body(path):
    body = b'{"challenge": "' + b"x" * (64 << 10) + b'"}'
    assert ask(path, "POST", "/control/peer/look", body)[0] == 413


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"x\r\n\r\n", b"GET //[ HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_request_at_all(path, request_, capsys):
    with connect(path) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert ask(path, "GET", "/control/peer/challenge")[0] == 200
    assert "[" not in capsys.readouterr().err, "nothing of a request is logged"


# ---- a stream, such as a live copy


class Pieces:
    """A stream's: yields until it is closed, or raises `error` first."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.closed, self.sent = error, threading.Event(), 0

    def __call__(self) -> Generator[bytes, None, None]:
        try:
            if self.error:
                raise self.error
            while self.sent < 1000:
                self.sent += 1
                yield b"x" * 100_000
        finally:
            self.closed.set()


@pytest.fixture
def pieces(monkeypatch, lamp) -> Pieces:
    made = Pieces()
    monkeypatch.setattr(lamp, "answer", lambda request: web.stream(request, made()))
    return made


def test_it_is_streamed(path, pieces):
    status, headers, body = raw(path, b"GET /lamp HTTP/1.1\r\n\r\n")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", b"x" * 100_000_000)
    assert "transfer-encoding" not in headers and "content-length" not in headers
    assert pieces.closed.is_set()


def test_its_client_goes_away(path, pieces):
    with connect(path) as connection:
        connection.sendall(b"GET /lamp HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 200"
    assert pieces.closed.wait(DEADLINE)
    assert pieces.sent < 100


def test_its_client_does_not_read(path, pieces, monkeypatch):
    monkeypatch.setattr(web, "LIVE_TIMEOUT", 0.1)
    with connect(path) as connection:
        connection.sendall(b"GET /lamp HTTP/1.0\r\n\r\n")
        assert pieces.closed.wait(DEADLINE)


def test_the_server_is_stopped_meanwhile(server, path, pieces):
    with connect(path) as connection:
        connection.sendall(b"GET /lamp HTTP/1.0\r\n\r\n")
        connection.recv(12)
        server.stop()
        assert pieces.closed.wait(DEADLINE)


@pytest.mark.parametrize(
    ("error", "retry"),
    [(Busy("wait for it"), "60"), (ServerError("wait for it"), None), (OSError("wait for it"), None)],
)
def test_it_cannot_begin(path, pieces, error, retry):
    pieces.error = error
    status, headers, body = raw(path, b"GET /lamp HTTP/1.0\r\n\r\n")
    assert (status, headers.get("retry-after"), json.loads(body)) == (503, retry, {"error": "wait for it"})


def test_an_unexpected_error_says_nothing_of_the_request(path, pieces, capsys):
    pieces.error = ValueError("unforeseen")
    assert raw(path, b"GET /lamp?SECRET HTTP/1.0\r\nSECRET: SECRET\r\n\r\n")[0] == 500
    (line,) = capsys.readouterr().err.splitlines()
    assert line.split(" ", 2)[2] == "error: unexpected, in the answer to a request: ValueError: unforeseen"


# ---- the socket


def test_only_for_us(path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_takes_the_place_of_what_a_killed_one_left(path, lamp, json_path):
    again = web.Server(path, web.Application(lamp, json_path))
    assert ask(path, "GET", "/control/peer/challenge")[0] == 200
    again.stop()


def test_a_few_at_once(path, server):
    with_room = [connect(path) for _ in range(web.AT_ONCE)]
    eventually(lambda: len(server._connections) == web.AT_ONCE)
    with connect(path) as one_more:
        assert one_more.recv(1) == b""
    for connection in with_room:
        connection.close()
    eventually(lambda: not server._connections)
    assert ask(path, "GET", "/control/peer/challenge")[0] == 200


def test_one_that_says_nothing_is_dropped(path, monkeypatch):
    monkeypatch.setattr(web.Handler, "timeout", 0.1)
    with connect(path) as connection:
        connection.sendall(b"GET /lamp HT")
        assert connection.recv(1) == b""


def test_a_door_that_cannot_open_is_tried_again(lamp, tmp_path, json_path):
    folder, socket_path = tmp_path / "p/var/run", tmp_path / "p/var/run/control.sock"
    folder.rmdir()
    door = web.Door(lamp, json_path)
    with pytest.raises(FileNotFoundError):
        door.open()
    folder.mkdir()
    door.open()
    door.open()
    assert ask(socket_path, "GET", "/control/peer/challenge")[0] == 200
    door.close()
    with pytest.raises(OSError):
        connect(socket_path)
