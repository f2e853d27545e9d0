# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers 503 on a listening socket, with a page that says why, while there is no Zope that could; never blocks."""

import contextlib
import html
import socket
import time

MOST = 40
"""Connections at once; more of them wait in the kernel's queue."""
MOST_OF_ALL = 800
"""Connections of all doors of a process, which has 1024 descriptors, and cannot select() those beyond."""
STEPS = 8
"""How often one connection is read from in a turn, as others wait: who sends fast enough never lets it end."""
LONGEST = 16 << 10
"""Bytes of a request that are read before it is answered, whether its headers have ended or not."""
PATIENCE = 5.0
"""Seconds that a client has to send a request, and then to take the answer."""
RETRY_AFTER = 5
"""Seconds after which a client is asked to try again."""
PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Not served at the moment</title></head>
<body><h1>Not served at the moment</h1><p>This Zope is <b>{state}</b>: {reason}.</p></body></html>
"""


def answer(state: str, reason: str, with_page: bool = True) -> bytes:
    """The whole response."""
    page = PAGE.format(state=html.escape(state), reason=html.escape(reason)).encode("utf-8")
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(page)}\r\nRetry-After: {RETRY_AFTER}\r\nCache-Control: no-store\r\n"
        f"X-Zope-State: {state}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (page if with_page else b"")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, and does not block. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(1024)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class Visitor:
    """One connection: its request is read, answered, and what it still sends is thrown away until it closes."""

    def __init__(self, connection: socket.socket, state: str, reason: str) -> None:
        self.connection, self.state, self.reason = connection, state, reason
        self.deadline = time.monotonic() + PATIENCE
        self.request, self.response = b"", b""
        self.answered = False
        connection.setblocking(False)

    def turn(self) -> bool:
        """Go on as far as possible without waiting; False when the connection is closed."""
        try:
            for _ in range(STEPS):
                self._step()
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.deadline = 0.0
        if time.monotonic() < self.deadline:
            return True
        self.connection.close()
        return False

    def _step(self) -> None:
        """Raises BlockingIOError when there is nothing to do yet, EOFError or OSError at the end."""
        if self.response:
            self.response = self.response[self.connection.send(self.response) :]
            if not self.response:
                # Closed with something unread, the answer could be lost (RST).
                self.connection.shutdown(socket.SHUT_WR)
            return
        data = self.connection.recv(LONGEST)
        if not data:
            raise EOFError
        if not self.answered:
            self.request += data
            if b"\r\n\r\n" in self.request or len(self.request) >= LONGEST:
                self.answered, self.deadline = True, time.monotonic() + PATIENCE
                self.response = answer(self.state, self.reason, not self.request.startswith(b"HEAD "))


class Door:
    """The visitors of one listening socket, at most `most`; somebody else may accept on it, too."""

    def __init__(self, listening: socket.socket, most: int = MOST) -> None:
        self.listening, self.most = listening, most
        self.visitors: dict[socket.socket, Visitor] = {}

    def waiting(self, is_open: bool) -> tuple[list[socket.socket], list[socket.socket]]:
        """What may become readable, and writable; nobody new is let in unless it `is_open`."""
        found = list(self.visitors)
        writing = [visitor.connection for visitor in self.visitors.values() if visitor.response]
        return found + ([self.listening] if is_open and len(found) < self.most else []), writing

    def turn(self, is_open: bool, state: str, reason: str) -> None:
        """Let in who waits, and go on with everybody."""
        while is_open and len(self.visitors) < self.most:
            try:
                connection, _ = self.listening.accept()
            except OSError:  # nobody there, or gone again
                break
            self.visitors[connection] = Visitor(connection, state, reason)
        for connection, visitor in list(self.visitors.items()):
            if not visitor.turn():
                del self.visitors[connection]

    def close(self) -> None:
        for visitor in self.visitors.values():
            with contextlib.suppress(OSError):
                visitor.connection.close()
        self.listening.close()
