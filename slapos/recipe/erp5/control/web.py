# SPDX-License-Identifier: GPL-2.0-or-later
"""What mariadb-control answers on its Unix socket, to nginx alone: what reaches which route is up to nginx.conf.in.

To add a page, add a rule to ROUTES and a method of its name to Application.
"""

import contextlib
import importlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol, cast

from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.peer import PeerEndpoint
from slapos.recipe.erp5.errors import Busy, Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.terms import TERMS

LARGEST_BODY = 64 << 10
TIMEOUT = 30.0
"""Seconds that a request may be silent, or its answer not taken."""
LIVE_TIMEOUT = 60.0
"""Seconds that the receiver of a live copy may take none of it: its disk may be busy."""
AT_ONCE = 16
"""Requests that are answered at the same time; a live copy is one of them."""
RETRY_AFTER = 60
"""Seconds after which somebody who found a backup under way should ask again."""

ROUTES = Map(
    [
        Rule("/replication/challenge", methods=["GET"], endpoint="challenge"),
        Rule("/replication/certificate", methods=["POST"], endpoint="certificate"),
        Rule("/live", methods=["POST"], endpoint="live"),
        Rule("/control/", endpoint="page"),
        Rule("/control/<path:rest>", endpoint="page"),
        Rule("/control/peer/challenge", methods=["GET"], endpoint="peer_challenge"),
        Rule("/control/peer/<name>", methods=["POST"], endpoint="peer"),
    ],
    merge_slashes=False,
)


class Signer(Protocol):
    """Answers replicas that want a certificate (tls/signer.py)."""

    def challenge(self) -> dict: ...

    def certificate(self, request: dict) -> tuple[int, dict]: ...


class Pages(Protocol):
    """Answers people and monitors (control/page.py)."""

    def answer(self, request: Request) -> Response: ...


class Application:
    """The WSGI application of a partition, whose configuration is read anew for each request.

    `make_signer` and `make_page` are called once, with the first request that needs it: what they import is large.
    """

    def __init__(
        self, path: Path, make_signer: Callable[[Path], Signer], make_page: Callable[[Path], Pages] | None = None
    ) -> None:
        self.path, self._make_signer, self._make_page = path, make_signer, make_page
        self._made, self._signers, self._pages = threading.Lock(), list[Signer](), list[Pages]()
        self._peers = PeerEndpoint(path)

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        return self.answer(Request(environ, populate_request=False))(environ, start_response)

    def answer(self, request: Request) -> Response:
        """One request's answer: whatever goes wrong is a sentence in JSON."""
        request.max_content_length = LARGEST_BODY
        try:
            endpoint, values = ROUTES.bind_to_environ(request.environ).match()
            return getattr(self, endpoint)(request, **values)
        except HTTPException as error:
            return refusal(error.code or 500, error.description or error.name)
        except Busy as error:
            return busy(error)
        except (Error, OSError) as error:
            process.log(f"error: {process.describe(error)}")
            return refusal(503, process.describe(error))

    # ---- one method a route

    def challenge(self, request: Request) -> Response:
        return as_json(200, self._signer().challenge())

    def certificate(self, request: Request) -> Response:
        asked = request.get_json(force=True, silent=True)
        if not isinstance(asked, dict):
            return refusal(400, "the request is no JSON object")
        return as_json(*self._signer().certificate(asked))

    def live(self, request: Request) -> Response:
        """A live copy of the data directory, as live.py has it."""
        from slapos.recipe.erp5.mariadb import live  # with all that reads and writes databases

        request.environ["werkzeug.socket"].settimeout(LIVE_TIMEOUT)
        return Response(begun(live.frames(self._config())), mimetype="application/octet-stream")

    def peer_challenge(self, request: Request) -> Response:
        return as_json(*self._peers.challenge())

    def peer(self, request: Request, name: str) -> Response:
        """What another instance asks for, as peer.py has it; nginx says from which address."""
        asked = request.get_json(force=True, silent=True)
        return as_json(*self._peers.answer(name, asked, request.headers.get("X-Real-IP", "")))

    def page(self, request: Request, rest: str = "") -> Response:
        return self._page().answer(request)

    # ----

    def _config(self) -> Config:
        return configuration.load(self.path)

    def _signer(self) -> Signer:
        with self._made:
            if not self._signers:
                self._signers.append(self._make_signer(self.path))
            return self._signers[0]

    def _page(self) -> Pages:
        with self._made:
            if self._make_page is None:
                raise NotFound()
            if not self._pages:
                self._pages.append(self._make_page(self.path))
            return self._pages[0]


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
    protocol_version = "HTTP/1.0"  # nginx reads until the end, and a live copy says itself whether it is whole

    def log(self, type: str, message: str, *args: object) -> None:
        pass

    def version_string(self) -> str:
        return "mariadb-control"


class Server(ThreadedWSGIServer):
    """Answers at most AT_ONCE requests at the same time, each in a thread; stop() cuts all of them short."""

    daemon_threads = True

    def __init__(self, path: Path, application: Application) -> None:
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
    """The server as mariadb-control keeps it: open from the first moment that it can be."""

    def __init__(self, path: Path, make_page: Callable[[Path], Pages] | None = None) -> None:
        self.path, self._make_page, self._server = path, make_page, cast(Server | None, None)

    def open(self) -> None:
        """Listen, unless it does. Raises Error and OSError: to be tried again."""
        if self._server is None:
            application = Application(self.path, _signer, self._make_page)
            self._server = Server(configuration.load(self.path).control_socket, application)

    def close(self) -> None:
        if self._server:
            self._server.stop()


def _signer(path: Path) -> Signer:
    signer = importlib.import_module("slapos.recipe.erp5.tls.signer")  # with all that cryptography needs
    return signer.Signer(lambda: configuration.load(path), TERMS)
