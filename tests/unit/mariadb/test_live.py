# SPDX-License-Identifier: GPL-2.0-or-later
"""The frames of a live copy, as they are read, and what is asked and answered; without MariaDB."""

import dataclasses
import io
import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import live, live_receive, upgrade
from slapos.recipe.erp5.mariadb.live import LENGTH, STILL_HERE
from tests.unit.mariadb import partition

HEAD = {"format": 1, "server-version": "10.11.19-MariaDB", "tables-size": 0, "instance": "primary"}


def frame(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def refused(stream, tmp_path, monkeypatch, ours: str = "10.11.19-MariaDB", redo: int = 96 << 20) -> str:
    """The sentence with which a stream is refused before anything is made of it."""
    monkeypatch.setattr(upgrade, "server_version", lambda config: ours)
    config = dataclasses.replace(partition.config(tmp_path / "p"), innodb_log_file_size=redo)
    source = io.BytesIO(stream) if isinstance(stream, bytes) else stream
    with pytest.raises(BackupError) as caught:
        live_receive.receive(config, source, tmp_path / "new", lambda done, total: None)
    assert not (tmp_path / "new").exists()
    return str(caught.value)


def head(**changes: object) -> bytes:
    return frame(json.dumps(HEAD | changes).encode())


@pytest.mark.parametrize("stream", [frame(b"{"), frame(b"[]"), frame(b"\xff"), frame(b"")])
def test_what_is_no_live_copy(stream, tmp_path, monkeypatch):
    assert refused(stream, tmp_path, monkeypatch) == "what comes is no live copy: is this our sender?"


def test_another_format(tmp_path, monkeypatch):
    sentence = "the live copy has format 2, expected 1: use the primary's release here"
    assert refused(head(format=2), tmp_path, monkeypatch) == sentence


def test_a_head_that_lacks_something(tmp_path, monkeypatch):
    sentence = "the live copy does not say what it is: KeyError('server-version'): is this our sender?"
    assert refused(frame(b'{"format": 1}'), tmp_path, monkeypatch) == sentence


@pytest.mark.parametrize("stream", [b"HTTP/1.1 200 OK\r\n", b"<html>"])
def test_a_frame_that_is_too_large(stream, tmp_path, monkeypatch):
    length = struct.unpack(">I", stream[:4])[0]
    sentence = f"what comes has a frame of {length} bytes, expected at most 1048576: is it our sender?"
    assert refused(stream, tmp_path, monkeypatch) == sentence


def test_a_newer_server(tmp_path, monkeypatch):
    assert refused(head(**{"server-version": "11.4.2-MariaDB"}), tmp_path, monkeypatch) == (
        "the live copy is of MariaDB 11.4.2-MariaDB and this is 10.11.19-MariaDB, which cannot read it: install a "
        "release with that version or a newer one"
    )


def test_the_redo_log_that_is_asked_for_has_to_fit_too(tmp_path, monkeypatch):
    monkeypatch.setattr(live_receive.space, "free", lambda folder: 4 << 30)
    assert refused(head(**{"tables-size": 1 << 20}), tmp_path, monkeypatch, redo=4 << 30) == (
        f"4.0 GiB are free in {tmp_path}, the tables of primary take 1.0 MiB, and a database takes 4.2 GiB besides: "
        "free disk space"
    )


def test_no_space(tmp_path, monkeypatch):
    monkeypatch.setattr(live_receive.space, "free", lambda folder: 1 << 20)
    assert refused(head(**{"tables-size": 1 << 30}), tmp_path, monkeypatch) == (
        f"1.0 MiB are free in {tmp_path}, the tables of primary take 1.0 GiB, and a database takes 256.0 MiB "
        "besides: free disk space"
    )


class Failing:
    """A connection that gives `content`, and then fails."""

    def __init__(self, content: bytes, error: Exception) -> None:
        self.content, self.error = io.BytesIO(content), error

    def readinto(self, buffer: memoryview) -> int:
        if size := self.content.readinto(buffer):
            return size
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError("timed out"), "the sender has said nothing for 60 s: is it still there?"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "the connection broke after 2 bytes of the live copy: Connection reset by peer: try again",
        ),
    ],
)
def test_a_connection_that_fails(error, sentence, tmp_path, monkeypatch):
    assert refused(Failing(b"\0\0", error), tmp_path, monkeypatch) == sentence


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_a_head_that_is_cut_short(size, tmp_path, monkeypatch):
    sentence = f"the live copy ends after {size} bytes, before its end: try again"
    assert refused(head()[:size], tmp_path, monkeypatch) == sentence


def test_signs_of_life_are_passed_over():
    alive = LENGTH.pack(STILL_HERE)
    frames = live_receive._Frames(io.BytesIO(alive + frame(b"one") + alive + alive + frame(b"") + frame(b"two")))
    assert [bytes(frames.read()) for _ in range(3)] == [b"one", b"", b"two"]


# ---- the sender's waiting


def test_waiting_is_told(monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT", 0.01)
    go_on = threading.Event()
    waiting = live._meanwhile(lambda: go_on.wait(30))
    assert next(waiting) == next(waiting) == LENGTH.pack(STILL_HERE)
    go_on.set()
    with pytest.raises(StopIteration) as caught:
        while True:
            next(waiting)
    assert caught.value.value is True


def test_what_fails_while_it_waits():
    def fail() -> None:
        raise BackupError("no")

    with pytest.raises(BackupError, match="no"):
        next(live._meanwhile(fail))


# ---- asking


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    """An HTTP server that gives the same answer to each request: its `status` and `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.server.asked.append(self.path)
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def open_live(server: HTTPServer):
    return live_receive.open_live(f"http://127.0.0.1:{server.server_port}/TOKEN/", None)


def test_it_is_asked_for(answering):
    answering.status, answering.body = 200, b"frames"
    with open_live(answering) as response:
        assert response.read() == b"frames"
    assert answering.asked == ["/TOKEN/live"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (503, b'{"error": "wait for its end"}', Busy, "gives no live copy now: wait for its end"),
        (
            403,
            b"a client certificate is required\n",
            BackupError,
            "gives no live copy: a client certificate is required",
        ),
        (404, b"<html>\n<h1>", BackupError, "gives no live copy: it answers with status 404"),
        (500, b'{"error": "no"}', BackupError, "gives no live copy: no"),
        (502, b"[]", BackupError, "gives no live copy: it answers with status 502"),
        (204, b"", BackupError, "gives no live copy: it answers with status 204"),
    ],
)
def test_it_is_refused(answering, status, body, kind, sentence):
    answering.status, answering.body = status, body
    with pytest.raises(kind) as caught:
        open_live(answering)
    assert str(caught.value) == f"127.0.0.1:{answering.server_port} {sentence}"


def test_nobody_answers():
    with pytest.raises(BackupError) as caught:
        live_receive.open_live("http://[::1]:9/SECRET/", None)
    assert str(caught.value) == "cannot ask [::1]:9 for a live copy: Connection refused"
