# SPDX-License-Identifier: GPL-2.0-or-later
"""A balancer in a temporary partition, under its supervisor, and small servers that answer as Zopes and their standby
supervisors do."""

import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervise, times
from slapos.recipe.erp5.balancer import status, verdict
from slapos.recipe.erp5.balancer.config import Config, Family
from slapos.recipe.erp5.supervisor import Supervised
from slapos.recipe.erp5.supervisor import status as supervised
from slapos.recipe.erp5.zope import door
from tests import zope_pages
from tests.service.servers import PATIENCE, ROOT, free_port, part, render, wait_for, write_program
from tests.zope_pages import Page

REASON = "the NEO cluster copy is BACKINGUP"


class FakeZope:
    """An HTTP server; `serves`, or else answers as a standby supervisor does; with `drops` it closes the connection
    once it has a request. `asked` are the methods and bodies of all requests but checks."""

    def __init__(self, serves: bool = False) -> None:
        self.serves, self.drops, self.slow = serves, False, 0.0
        self.port, self.asked = free_port(), list[tuple[str, bytes]]()
        self.server: http.server.ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "FakeZope":
        self.server = Server(("127.0.0.1", self.port), handler(self))
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass


def handler(zope: FakeZope) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (the library's)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            serves = zope.serves
            if (self.command, self.path) != ("HEAD", "/"):
                zope.asked.append((self.command, body))
                if zope.drops:
                    self.close_connection = True
                    return
            if zope.slow:
                threading.Event().wait(zope.slow)
            if serves:
                page = zope.address.encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n".encode()
                self.wfile.write(head + (b"" if self.command == "HEAD" else page))
            else:
                self.wfile.write(door.answer("waiting", REASON, self.command != "HEAD"))
            self.close_connection = True

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Balancer:
    """The service `balancer` of a partition; `families` are the Zopes behind each."""

    def __init__(self, folder: Path, **families: list[FakeZope]) -> None:
        self.folder, self.process = folder, None
        self.ports = {name: free_port() for name in families}
        for name in ("bin", "etc", "var/log", "var/run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_program(folder / "bin/balancer", "slapos.recipe.erp5.balancer.serve")
        self.configure(**families)

    def configure(self, **families: list[FakeZope]) -> None:
        """What processing the partition writes."""
        for name in families:
            self.ports.setdefault(name, free_port())
        listed = tuple(
            Family(name, self.ports[name], tuple(zope.address for zope in zopes)) for name, zopes in families.items()
        )
        self.config = Config("the balancer", str(self.folder), part("haproxy"), listed)
        shapes.save(self.folder / "etc/balancer.json", self.config)
        text = render(
            "stack/erp5/balancer/haproxy.cfg.in",
            directory={"run": str(self.folder / "var/run")},
            ip="127.0.0.1",
            page=str(ROOT / "stack/erp5/balancer/503.http"),
            families=[{"name": one.name, "port": one.port, "addresses": one.addresses} for one in listed],
        )
        self.config.wanted.write_text(text)

    def start(self) -> None:
        program = ROOT / "slapos/recipe/erp5/supervise.py"
        words = [sys.executable, "-I", "-S", "-B", program, "--name", "balancer", "--run", self.folder / "var/run"]
        command = [self.folder / "bin/balancer", "--config", self.folder / "etc/balancer.json"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*words, "--", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: not self.snapshot().silence, "a haproxy that answers")

    def stop(self) -> None:
        if self.process:
            found = supervised(self.config.service)
            self.process.terminate()
            self.process.wait(PATIENCE)
            assert not found or not found.child_pid or not supervise.members(found.child_pid)
            self.process = None

    @property
    def log_file(self) -> Path:
        return self.folder / "var/log/balancer.log"

    def log(self) -> str:
        return self.log_file.read_text()

    def supervised(self) -> Supervised:
        found = supervised(self.config.service)
        assert found
        return found

    def haproxy(self) -> int:
        """The pid of haproxy's master."""
        (pid,) = (
            Path(f"/proc/{self.supervised().child_pid}/task/{self.supervised().child_pid}/children").read_text().split()
        )
        return int(pid)

    def snapshot(self) -> status.Snapshot:
        return status.gather(self.config, times.now())

    def promise(self) -> tuple[bool, str]:
        found = verdict.balancer(self.snapshot())
        return found.good, "\n".join(found.sentences)

    def wait_for(self, sentence: str) -> None:
        """Until the promise says this."""
        try:
            wait_for(lambda: self.promise()[1] == sentence, sentence)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.promise()}\n{self.log()[-3000:]}") from None

    def get(self, path: str = "/page", family: str = "default", method: str = "GET", **headers: str) -> Page:
        """An answer of a family. Raises OSError and HTTPException."""
        body = "a body" if method == "POST" else None
        return zope_pages.ask("127.0.0.1", self.ports[family], path, body, headers, PATIENCE, method)


@contextlib.contextmanager
def balancing(folder: Path, **families: list[FakeZope]) -> Iterator[Balancer]:
    """A balancer that runs, in front of these Zopes; nothing is left afterwards."""
    balancer = Balancer(folder, **families)
    try:
        balancer.start()
        yield balancer
    finally:
        balancer.stop()
        for zopes in families.values():
            for zope in zopes:
                zope.stop()
