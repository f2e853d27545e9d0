# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control process answers on its Unix socket, to nginx alone: what reaches which route is up to nginx.conf.in.

To add what every service answers, add an Endpoint to Application; a service adds its own (Service.endpoints).
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.peer import PeerEndpoint
from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.errors import Busy, Error

T = TypeVar("T")
LARGEST_BODY = 64 << 10
TIMEOUT = 30.0
"""Seconds that a request may be silent, or its answer not taken."""
LIVE_TIMEOUT = 60.0
"""Seconds that the receiver of a stream, such as a live copy, may take none of it: its disk may be busy."""
AT_ONCE = 16
"""Requests that are answered at the same time; a stream is one of them."""
RETRY_AFTER = 60
"""Seconds after which somebody who found something under way should ask again."""


@dataclass(frozen=True)
class Endpoint:
    """A path, as werkzeug's Rule has it, with the methods that it takes (none named: all), and what answers."""

    path: str
    answer: Callable[..., Response]
    methods: tuple[str, ...] = ()


class Pages(Protocol):
    """Answers people and monitors (control/page.py)."""

    def answer(self, request: Request) -> Response: ...


class Application:
    """The WSGI application of a partition, whose configuration, at `path`, is read anew for each request.

    `make_page` is called once, with the first request that needs it, as what it imports is large; None: there is none.
    """

    def __init__(self, service: Service, path: Path, make_page: Callable[[], Pages] | None = None) -> None:
        self.program = f"{service.prefix}-control"
        self._peers = PeerEndpoint(service, path)
        own = (
            Endpoint("/control/peer/challenge", self.peer_challenge, ("GET",)),
            Endpoint("/control/peer/<name>", self.peer, ("POST",)),
            *pages(make_page),
        )
        self._routes = Map([_rule(one) for one in (*own, *service.endpoints(path))], merge_slashes=False)

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        return self.answer(Request(environ, populate_request=False))(environ, start_response)

    def answer(self, request: Request) -> Response:
        """One request's answer: whatever goes wrong is a sentence in JSON."""
        request.max_content_length = LARGEST_BODY
        try:
            answer, values = self._routes.bind_to_environ(request.environ).match()
            return cast(Callable[..., Response], answer)(request, **values)
        except HTTPException as error:
            return refusal(error.code or 500, error.description or error.name)
        except Busy as error:
            return busy(error)
        except (Error, OSError) as error:
            process.log(f"error: {process.describe(error)}")
            return refusal(503, process.describe(error))

    def peer_challenge(self, request: Request) -> Response:
        return as_json(*self._peers.challenge())

    def peer(self, request: Request, name: str) -> Response:
        """What another instance asks for, as peer.py has it; nginx says from which address."""
        asked = request.get_json(force=True, silent=True)
        return as_json(*self._peers.answer(name, asked, request.headers.get("X-Real-IP", "")))


def _rule(one: Endpoint) -> Rule:
    return Rule(one.path, methods=one.methods or None, endpoint=one.answer)


def pages(make_page: Callable[[], Pages] | None) -> tuple[Endpoint, ...]:
    """Where the control page answers, which is made with the first request for it."""
    if make_page is None:
        return ()
    page = Once(make_page)

    def answer(request: Request, rest: str = "") -> Response:
        return page().answer(request)

    return Endpoint("/control/", answer), Endpoint("/control/<path:rest>", answer)


class Once(Generic[T]):
    """Makes something when it is asked for the first time, by whatever thread."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock, self._made = make, threading.Lock(), list[T]()

    def __call__(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def stream(request: Request, pieces: Generator[bytes, None, None]) -> Response:
    """An answer that goes on as long as there are pieces; what stands in the way of the first one is raised here."""
    request.environ["werkzeug.socket"].settimeout(LIVE_TIMEOUT)
    return Response(begun(pieces), mimetype="application/octet-stream")


def begun(pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """The same pieces; what stands in the way of the first one is raised here, and not when they are asked for."""
    rest = _after(next(pieces), pieces)
    next(rest)
    return rest


def _after(first: bytes, pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    with contextlib.closing(pieces):
        yield b""  # begun() takes this one: a generator that never ran would not close `pieces`
        yield first
        yield from pieces


def as_json(status: int, content: dict) -> Response:
    """An answer with `content` as its body."""
    return Response(json.dumps(content), status, mimetype="application/json")


def refusal(status: int, sentence: str) -> Response:
    """An answer that says in one sentence why there is no other one."""
    return as_json(status, {"error": sentence})


def busy(error: Busy) -> Response:
    """An answer that asks to come back later."""
    response = refusal(503, str(error))
    response.retry_after = RETRY_AFTER
    return response


# ---- the server


class Handler(WSGIRequestHandler):
    """Says nothing of any request in any log: a request may hold secrets."""

    timeout = TIMEOUT
    protocol_version = "HTTP/1.0"  # nginx reads until the end, and a stream says itself whether it is whole

    def log(self, type: str, message: str, *args: object) -> None:
        pass

    def version_string(self) -> str:
        return cast(Server, self.server).program


class Server(ThreadedWSGIServer):
    """Answers at most AT_ONCE requests at the same time, each in a thread; stop() cuts all of them short."""

    daemon_threads = True

    def __init__(self, path: Path, application: Application) -> None:
        self.program = application.program
        self._connections: set[socket.socket] = set()
        self._lock, self._is_stopped = threading.Lock(), False
        with _bound(path) as listener:
            super().__init__(f"unix://{path}", 0, application, Handler, fd=listener.fileno())  # which duplicates it
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, and end what is being answered: a program that was started for it dies with it."""
        self._is_stopped = True
        with self._lock:
            connections = tuple(self._connections)
        for connection in (self.socket, *connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.server_close()

    def _serve(self) -> None:
        while not self._is_stopped:
            self.handle_request()

    def verify_request(self, request: Any, client_address: object) -> bool:
        """Whether there is room for one more; nobody waits in vain, as nginx then says 502 itself."""
        with self._lock:
            if len(self._connections) >= AT_ONCE:
                return False
            self._connections.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        process.log(f"error: a request ended with an unexpected {type(sys.exception()).__name__}")

    def log(self, type: str, message: str, *args: object) -> None:
        process.log(f"error: unexpected, in the answer to a request: {message.strip().splitlines()[-1]}")


@contextlib.contextmanager
def _bound(path: Path) -> Generator[socket.socket, None, None]:
    """A listening socket at `path`, for our account alone, instead of what was there. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as listener, process.attempting(f"listen on {path}"):
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)  # before anybody can connect
        listener.listen(AT_ONCE)
        yield listener


class Door:
    """The server as the control process keeps it: open from the first moment that it can be."""

    def __init__(self, service: Service, path: Path, make_page: Callable[[], Pages] | None = None) -> None:
        self._service, self.path, self._make_page = service, path, make_page
        self._server = cast(Server | None, None)

    def open(self) -> None:
        """Listen, unless it does. Raises Error and OSError: to be tried again."""
        if self._server is None:
            application = Application(self._service, self.path, self._make_page)
            self._server = Server(self._service.load(self.path).control_socket, application)

    def close(self) -> None:
        if self._server:
            self._server.stop()
