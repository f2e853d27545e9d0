# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of bootstraps share: a primary with backups, an HTTP server with faults, a replica under way."""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import BackupError, ServerError
from slapos.recipe.erp5.mariadb import (
    bootstrap,
    bootstrap_note,
    create,
    install,
    manifest,
    private_server,
    progress,
    sql,
)
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.manifest import Entry
from slapos.recipe.erp5.mariadb.progress import State
from slapos.recipe.erp5.mariadb.sql_replication import Facts
from tests.service.backup_fixtures import DEADLINE, ROOT, TOKEN, Partition, wait_until
from tests.service.physical_fixtures import back_up, fill, listed

PRIMARY = "mysql://replication_user:SQL-SECRET@127.0.0.1:20001"
GONE = "Could not find GTID state requested by slave in any binlog files. (1236)"
QUESTIONS = (
    "SELECT COUNT(*), MAX(uid), MD5(GROUP_CONCAT(MD5(data) ORDER BY uid)) FROM erp5.catalog",
    "SELECT uid FROM erp5.full_text WHERE MATCH (t) AGAINST ('検索')",
    "SELECT COUNT(*) FROM erp5.parted",
    "SELECT i FROM erp5.myisam",
    "SELECT user, host FROM mysql.user WHERE user = 'replica'",
)


class Outside:
    """What the rest of the project would say: `position` is the primary's, `refused` has words for those that are gone.

    With `down` the primary does not answer; with `hangs` it does not answer the last question of a dump's bootstrap.
    """

    def __init__(
        self,
        version: str,
        position: str,
        refused: dict[str, str] | None = None,
        down: bool = False,
        hangs: bool = False,
    ) -> None:
        self.version, self.position, self.refused, self.down, self.hangs = version, position, refused or {}, down, hangs
        self.asked: list[str] = []

    def join(self, config, primary):
        pass

    def context(self, config, where):
        return None

    def primary_facts(self, config, primary):
        if self.down:
            raise ServerError(f"cannot connect to MariaDB on {primary.address}: Connection refused (2003)")
        here = self.position
        return Facts(self.version, 8, 0, here, "", "", strict=True, read_only=False, encrypted=False)

    def can_follow(self, config, primary, gtid):
        if self.hangs and self.asked:
            signal.pause()
        self.asked.append(gtid)
        return self.refused.get(gtid, self.refused.get("*", ""))

    def receive_live(self, config, where, directory, report):
        directory.mkdir()
        (directory / "half").touch()
        raise BackupError("the primary gives no live copy")


# ---- the site


class Site:
    """Serves a copy of a primary's offered backups below the token, and does wrong what a test asks for.

    `cuts` has, for a file's name, after how many bytes of each of its answers the connection is closed; `stall` is a
    name of which nothing more comes after 1 MiB until go_on(); `ranges` tells whether Range is known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.cuts, self.stall = folder, True, {}, ""  # type: ignore[var-annotated]
        self.status: dict[str, int] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.going_on = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.answer(self)

            def log_message(self, *_):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionError):  # who asked was killed
                    super().handle()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def where(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.where}/{TOKEN}/"

    def go_on(self) -> None:
        """Send the rest of what is stalled; nothing is from then on."""
        self.stall = ""
        self.going_on.set()

    def end(self) -> None:
        self.going_on.set()
        self.server.shutdown()
        self.server.server_close()

    def sent(self, name: str) -> int:
        """How many bytes of a file were served in all."""
        return sum(size for asked, _, size in self.requests if asked == name)

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        prefix, name = f"/{TOKEN}/", request.path.rpartition("/")[2] or manifest.FILE
        path = self.folder / name
        status = self.status.get(name, 200 if request.path.startswith(prefix) and path.exists() else 404)
        if status != 200:
            request.send_response(status)
            request.send_header("Location", "http://127.0.0.1:1/")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content, wanted = path.read_bytes(), request.headers.get("Range", "")
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0  # type: ignore[index]
        request.send_response(206 if begin else 200)
        request.send_header("ETag", f'"{hash(content)}"')
        request.send_header("Content-Length", str(len(content) - begin))
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        cuts = self.cuts.get(name, [])
        body = content[begin:]
        cut, sent = cuts.pop(0) if cuts else len(body), 0
        with contextlib.suppress(OSError):
            if name == self.stall:
                sent = 0 if begin else 1 << 20
                request.wfile.write(body[:sent])
                request.wfile.flush()
                self.going_on.wait()
            request.wfile.write(body[sent:cut])
        self.requests.append((name, wanted, min(cut, len(body))))
        request.close_connection = cut < len(body)


# ---- a primary with backups


class Primary:
    """What a primary has offered, and how it answers."""

    def __init__(self, partition: Partition, folder: Path) -> None:
        self.folder, self.answers, self.version = folder, [partition.sql(question) for question in QUESTIONS], ""
        self.version, self.position = map(str, partition.sql("SELECT VERSION(), @@gtid_binlog_pos")[0])
        self.entries = manifest.load(folder)
        self.partition = partition

    @property
    def chain(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.physical)

    @property
    def dump(self) -> Entry:
        return next(entry for entry in self.entries if not entry.physical)


@pytest.fixture(scope="module")
def primary(empty_data: Path) -> Iterator[Primary]:
    """With a full backup, two incrementals and a dump, the dump being the newest."""
    partition = Partition(Path(tempfile.mkdtemp(prefix="b", dir="/tmp")), tls=False)
    try:
        partition.start_server(empty_data)
        fill(partition)
        back_up(partition)
        for step in (1, 2):
            partition.sql("USE erp5", f"INSERT INTO catalog SELECT seq, 'more' FROM seq_{step}0000_to_{step}1000")
            back_up(partition)
        assert len(listed(partition)) == 3
        code, said = partition.run("mariadb.backup")
        assert code == 0, said
        yield Primary(partition, partition.config.offered)
    finally:
        partition.stop()
        shutil.rmtree(partition.folder)


@pytest.fixture
def site(primary: Primary, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "offered"
    shutil.copytree(primary.folder, folder)
    site = Site(folder)
    yield site
    site.end()


# ---- a replica


class Replica:
    """A partition whose replica is to be made."""

    def __init__(self, partition: Partition, outside: Outside) -> None:
        self.partition, self.outside = partition, outside
        self.directory = partition.config.path("srv", "mariadb.new")
        self.state_file = partition.config.bootstrap_state

    def ask_for(self, bootstrap_url: str, replication: bool = True) -> None:
        """Write the parameter `replication`."""
        document = json.loads(self.partition.json.read_text())
        document["replication"] = {
            "primary-url": PRIMARY,
            "bootstrap-url": bootstrap_url,
            "caucased-url": "",
            "seconds-behind-master-threshold": 0,
            "allow-tcp-connections-on-replica": True,
            "replicate-with-tls": False,
        } if replication else None  # fmt: skip
        new = self.partition.json.with_name(".new.json")
        new.write_text(json.dumps(document))
        new.rename(self.partition.json)

    @property
    def config(self) -> Config:
        return self.partition.config

    def make(self, bootstrap_url: str) -> Bootstrap:
        """One attempt, in this process; returns the note. Raises what it raises, and nothing is left then."""
        self.ask_for(bootstrap_url)
        bootstrap.discard(self.directory)
        report = progress.Progress(self.state_file)
        try:
            bootstrap.make(self.config, self.directory, report, self.outside)
        except BaseException:
            self.assert_nothing_is_left()
            raise
        note = bootstrap_note.load(self.directory)
        assert note is not None
        return note

    def assert_nothing_is_left(self) -> None:
        assert sorted(os.listdir(self.config.path("srv"))) == ["backup", "tls"]

    def answers(self) -> list:
        """How the new database answers."""
        with self.serving() as connection:
            return [sql.execute(connection, question) for question in QUESTIONS]

    @contextlib.contextmanager
    def serving(self):
        server = private_server.of(self.config, self.directory, init_sql=create.administrator_sql(self.config))
        with server as socket, sql.connect(self.config.defaults_file, socket) as connection:
            yield connection

    def state(self) -> State:
        state = progress.load(self.state_file)
        assert state is not None
        return state

    # -- as a program

    def start(self, pause: float = 0.2, **options) -> "Program":
        """The program mariadb-install with short pauses, and `outside` as it is now."""
        self.tell()
        command = (sys.executable, "-m", "tests.service.bootstrap_fixtures", self.partition.folder, str(pause))
        log = self.partition.folder / "var" / "log" / "install.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with log.open("ab") as file:
            child = self.partition.spawn(*command, stderr=file, start_new_session=True, env=environment, **options)
        return Program(child, log)

    def tell(self) -> None:
        """Let the program see `outside` as it is now, from its next attempt on."""
        said = self.outside
        facts = {name: getattr(said, name) for name in ("version", "position", "refused", "down", "hangs")}
        new = self.partition.folder / "new.json"
        new.write_text(json.dumps(facts))
        new.rename(self.partition.folder / "outside.json")


class Program:
    """mariadb-install under way."""

    def __init__(self, child: subprocess.Popen, log: Path) -> None:
        self.child, self.log = child, log

    def lines(self) -> list[str]:
        return [line.split(" ", 2)[-1] for line in self.log.read_text().splitlines()]

    def wait_for(self, words: str, count: int = 1) -> None:
        def said() -> bool:
            found = self.log.read_text().count(words) >= count
            assert found or self.child.poll() is None, f"it ended with {self.child.returncode}: {self.log.read_text()}"
            return found

        wait_until(said, f"`{words}` in the log")

    def kill(self) -> None:
        """SIGKILL to all of it but servers, which end by themselves."""
        self.child.kill()
        self.child.wait(DEADLINE)

    def end(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(DEADLINE)

    def wait(self) -> None:
        assert self.child.wait(DEADLINE) == 0, self.log.read_text()


@pytest.fixture
def replica(primary: Primary, new_partition) -> Replica:
    return Replica(new_partition(), Outside(primary.version, primary.position))


def main(folder: Path, pause: float) -> None:
    """mariadb-install with the Outside that a file describes."""
    install.FIRST_PAUSE = install.LONGEST_PAUSE = pause

    def outside() -> Outside:
        return Outside(**json.loads((folder / "outside.json").read_text()))

    install.install(folder / "etc" / "mariadb.json", folder / "srv" / "mariadb.new", outside)


if __name__ == "__main__":
    from slapos.recipe.erp5 import process

    raise SystemExit(process.program(lambda: main(Path(sys.argv[1]), float(sys.argv[2]))))
