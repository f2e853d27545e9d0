# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to a Unix socket, as nginx makes them."""

import json
import socket
from pathlib import Path

DEADLINE = 30


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
