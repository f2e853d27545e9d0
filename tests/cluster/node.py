# SPDX-License-Identifier: GPL-2.0-or-later
"""A real SlapOS node for the scenarios: slapos.testing's class builds the release from a URL."""

import contextlib
import functools
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pymysql
from pymysql.cursors import DictCursor

from node import promises

ROOT = Path(__file__).parents[2]
SERVER_PORTS = range(27000, 27100)
PARTITIONS = 24
LENIENT = {"seconds-behind-master-threshold": 60}
"""A busy test machine may lag for a moment; scenarios about lag say their own."""


@contextlib.contextmanager
def served_checkout() -> Iterator[str]:
    """The checkout over HTTP on 127.0.0.1, as a production node would get the release; yields the base URL."""
    handler = functools.partial(QuietHandler, directory=str(ROOT))
    server = first_free_server(handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def first_free_server(handler: Any) -> http.server.ThreadingHTTPServer:
    for port in SERVER_PORTS:
        with contextlib.suppress(OSError):
            return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    raise RuntimeError(f"no port of {SERVER_PORTS} is free")


def eventually(check: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Poll `check` until it returns something true, and return that; AssertionError with `what` and its last answer."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last answer: {answer!r}"
        pause.wait(0.3)


class Instance:
    """One requested MariaDB instance: its partition, what it publishes, its processes and its promises."""

    software_type = "mariadb"

    def __init__(self, node: "Node", name: str):
        self.node, self.name = node, name
        self.parameters: dict[str, Any] = {}
        self.path = Path()

    def request(self, parameters: dict[str, Any] | None = None, state: str = "started") -> None:
        """Request it; `parameters` replace the earlier ones and stay for later requests."""
        if parameters is not None:
            self.parameters = parameters
        self.path = self.node.instances / self._request(state).getId()

    def _request(self, state: str) -> Any:
        return self.node.slap.request(
            self.node.url,
            self.name,
            self.software_type,
            partition_parameter_kw={"_": json.dumps(self.parameters)},
            state=state,
        )

    @property
    def published(self) -> dict[str, Any]:
        return json.loads(self._request("started").getConnectionParameterDict().get("_", "{}"))

    def sql(self, *statements: str) -> tuple[tuple, ...]:
        """Run statements as the administrator; the rows of the last one."""
        with contextlib.closing(
            pymysql.connect(read_default_file=str(self.path / "etc/mariadb.cnf"), autocommit=True)
        ) as db:
            cursor = db.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def replica_of(self, primary: "Instance", bootstrap: str | None = None, **replication: Any) -> dict[str, Any]:
        """Parameters of a replica of `primary`, made of what it publishes alone; `bootstrap` is a kind, "" for any."""
        published = primary.published
        chosen: dict[str, Any] = {"primary-url": published["replication-primary-url"], **LENIENT}
        if bootstrap is not None:
            chosen["bootstrap-url"] = published["replication-bootstrap-url"] + (f"#{bootstrap}" if bootstrap else "")
        return {"replication": chosen | {key.replace("_", "-"): value for key, value in replication.items()}}

    def bootstrapped(self) -> dict[str, Any]:
        """What the database says of how it was made."""
        return json.loads((self.path / "srv/mariadb/slapos.bootstrap.json").read_text())

    def slave_status(self) -> dict[str, Any]:
        """SHOW SLAVE STATUS, empty on a primary."""
        with contextlib.closing(
            pymysql.connect(read_default_file=str(self.path / "etc/mariadb.cnf"), cursorclass=DictCursor)
        ) as db:
            cursor = db.cursor()
            cursor.execute("SHOW SLAVE STATUS")
            return cursor.fetchone() or {}

    def wait_for_row_of(self, primary: "Instance") -> None:
        """Write a row on `primary`, and wait until it is here: the last word of each scenario of replication."""
        text = f"for {self.name}"
        primary.sql(
            "CREATE DATABASE IF NOT EXISTS travel",
            "CREATE TABLE IF NOT EXISTS travel.message (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(80))",
            f"INSERT INTO travel.message (text) VALUES ('{text}')",
        )
        ((number,),) = primary.sql("SELECT MAX(id) FROM travel.message")

        def arrived() -> bool:
            with contextlib.suppress(pymysql.MySQLError):
                return self.sql(f"SELECT text FROM travel.message WHERE id = {number}") == ((text,),)
            return False

        try:
            eventually(arrived, f"the row {number} of {primary.name} on {self.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.promises()}\n{tail(self.path)}") from None

    def pid(self) -> int:
        """mariadbd's."""
        return int((self.path / "var/run/mariadb.pid").read_text())

    def program(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run bin/`name` of the partition."""
        return run([str(self.path / "bin" / name), *arguments])

    def backup(self) -> None:
        """A backup made by bin/mariadb-dump-script; the scheduler may be making one just now."""
        finished = eventually(
            lambda: (lambda made: None if made.returncode == 75 else made)(self.program("mariadb-dump-script")),
            "no other backup is running",
        )
        assert finished.returncode == 0, finished.stdout

    def processes(self) -> list[psutil.Process]:
        """All processes that name the partition in their command, or have it as their working directory."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = [*process.cmdline(), process.cwd()]
                if any(word.startswith(str(self.path)) or f"={self.path}" in word for word in words):
                    found.append(process)
        return found

    def promises(self) -> dict[str, tuple[bool, str]]:
        """Run all promises now: title -> (failed, message)."""
        return promises.evaluate(self.path, self.node.slap._master_url)

    def wait_until_green(self) -> None:
        """Wait until there are promises and none fails."""
        last: dict[str, tuple[bool, str]] = {}

        def all_green() -> bool:
            last.clear()
            last.update(self.promises())
            return bool(last) and not any(failed for failed, _ in last.values())

        try:
            eventually(all_green, f"all promises of {self.name} green")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}\n{tail(self.path)}") from None


class Node:
    """The node that the session shares; `url` is what the release is requested by."""

    def __init__(self, case: Any):
        self.slap = case.slap
        self.url = case.getSoftwareURL()
        self.instances = Path(case.slap.instance_directory)
        self.release = next(Path(case.slap.software_directory).glob("*/instance.cfg")).parent
        self._slapos = [str(Path(sys.executable).parent / "slapos"), "node"]
        self._configuration = ["--cfg", str(Path(case._base_directory) / "etc" / "slapos.cfg")]

    def slapos(self, *command: str) -> subprocess.CompletedProcess:
        """`slapos node COMMAND`, its output in `stdout`."""
        return run([*self._slapos, command[0], *self._configuration, *command[1:]])

    def process(self, *options: str) -> str:
        """`slapos node instance`, which has to succeed; its output."""
        finished = self.slapos("instance", *options)
        assert finished.returncode == 0, finished.stdout[-6000:]
        return finished.stdout

    def process_only(self, *instances: Instance) -> str:
        """The same for some instances: for each other one that is up to date a run takes more than a second."""
        return self.process(*only(*instances))

    def instance(self, name: str) -> Instance:
        return Instance(self, name)

    def destroy(self, instance: Instance) -> None:
        """Request its destruction, and carry it out: the report stops what is to be destroyed, without processing."""
        instance.request(state="destroyed")
        report = self.slapos("report")
        assert report.returncode == 0, report.stdout[-6000:]


def only(*instances: Instance) -> tuple[str, str]:
    """What makes `slapos node instance` look at some instances alone."""
    return "--only-cp", ",".join(instance.path.name for instance in instances)


def run(command: list[str]) -> subprocess.CompletedProcess:
    """Run a command, its output and errors together in `stdout`."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def connect(url: str, **options: Any) -> pymysql.connections.Connection:
    """Connect with a published mysql:// URL; `options` are pymysql.connect's, such as those of TLS."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or "").encode(),  # PyMySQL would encode a text as latin1
        database=unquote(parts.path[1:]) or None,
        autocommit=True,
        **options,
    )


def client_tls(instance: Instance, certificate: Path | None = None) -> ssl.SSLContext:
    """What the partition's own authority lets a replication client connect with, or what it gave to somebody."""
    context = ssl.create_default_context(cafile=instance.path / "srv/tls/ca.pem")
    context.load_cert_chain(certificate or instance.path / "srv/tls/client.pem")
    return context


def fetch(instance: Instance, url: str, **headers: str) -> tuple[int, bytes]:
    """GET a URL that the instance published, with a replication client's certificate."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, context=client_tls(instance) if url.startswith("https") else None) as response:
        return response.status, response.read()


def processed_partitions(output: str) -> list[str]:
    """The partitions that a `slapos node instance` really processed, from its output."""
    return re.findall(r"Processing Computer Partition '?([^\s'.]+)", output)


def tail(partition: Path) -> str:
    """The ends of a partition's logs, for the message of a failure."""
    texts = []
    for path in sorted(partition.glob(".*_mariadb*.log")) + sorted(partition.glob("var/log/*.log")):
        texts.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]))
    return "\n".join(texts)


def environment(url: str) -> None:
    """What slapos.testing reads when it is imported. SLAPOS_TEST_WORKING_DIR comes from bin/test."""
    os.environ["SLAPOS_TEST_SOFTWARE_ROOT_URL"] = url
    os.environ["SLAPOS_TEST_SOFTWARE_ROOT_DIR"] = str(ROOT)


def forget_releases() -> None:
    """Let a stopped Master forget the releases of earlier runs: they may be of ports where no server is any more."""
    Path(os.environ["SLAPOS_TEST_WORKING_DIR"], "var", "proxy.db").unlink(missing_ok=True)
