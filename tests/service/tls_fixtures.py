# SPDX-License-Identifier: GPL-2.0-or-later
"""Real authorities, and a primary's HTTPS endpoint with the real signer behind it, for tests of certificates."""

import contextlib
import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.mariadb.tls import Certificates
from slapos.recipe.erp5.tls import own, renew, template, waiting
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.signer import Signer
from tests.service import servers


class Authority:
    """The service mariadb-caucased of a partition."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log_file = config.path("var", "log", "caucased.log")
        self.program: tuple[str, ...] = ("-m", "slapos.recipe.erp5.mariadb.caucased")
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, *self.program, "--config", self.json]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def json(self) -> str:
        return str(self.config.path("etc", "mariadb.json"))

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return urlopen(f"{own.url(self.config)}/cas/crl", timeout=5).status == 200
        return False

    def run(self) -> None:
        self.start()
        servers.wait_for(self.answers, f"the authority at {own.url(self.config)}")

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(servers.PATIENCE)

    def end(self) -> None:
        """However it stands."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def authority(config: Config) -> Iterator[Authority]:
    """The partition's own authority, running."""
    service = Authority(config)
    try:
        service.run()
        yield service
    finally:
        service.end()


def renew_now(config: Config) -> int:
    """One run of the renewal, in this process."""
    return renew.one_at_a_time(Certificates(config))


class Endpoint:
    """What nginx and mariadb-control are to replicas, over TLS with the partition's own certificate.

    `tamper(request)` may change a request on its way in, `forge(answer)` an answer on its way out: who sits between.
    """

    def __init__(self, config: Config, load: Callable[[], Config] | None = None) -> None:
        self.signer = Signer(load or (lambda: config), TERMS)
        self.tamper: Callable[[dict], dict] = lambda request: request
        self.forge: Callable[[dict], dict] = lambda answer: answer
        self.seen: list[dict[str, Any]] = []
        self.server = http.server.ThreadingHTTPServer((config.network.ipv4, config.network.backup_port), _Handler)
        self.server.endpoint = self  # type: ignore[attr-defined]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Files(config.tls).server)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, path: str, content: bytes | None) -> tuple[int, dict]:
        if path == "/replication/challenge":
            return 200, self.signer.challenge()
        request = self.tamper(json.loads(content or b""))
        self.seen.append(request)
        status, answer = self.signer.certificate(request)
        return status, self.forge(answer) if status == 200 else answer


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, content: bytes | None) -> None:
        status, answer = self.server.endpoint.answer(self.path, content)  # type: ignore[attr-defined]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def endpoint(config: Config) -> Iterator[Endpoint]:
    made = Endpoint(config)
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def published(config: Config, **changes: str) -> Primary:
    """The primary as its URL says, which a replica is given."""
    base = f"https://{config.network.ipv4}:{config.network.backup_port}"
    values = {"user": "replication_user", "password": config.secrets.replication_password, "endpoint": base, **changes}
    return Primary(config.network.ipv4, config.network.port, **values)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waiting_request(config: Config) -> str:
    """The request (PEM) of a replica whose certificate is approved by hand."""
    upstream = Files(config.tls).upstream
    return waiting.request(upstream.pending(upstream.client), template.CLIENT)
