# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition of Zopes has beside its supervisor: control page, actions, promises, logs; on a real ZEO server."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.control import journal, token
from slapos.recipe.erp5.neo import logs as neo_logs
from slapos.recipe.erp5.promise import zope_listening, zope_standby
from slapos.recipe.erp5.zope import instance, listening
from slapos.recipe.erp5.zope.config import Config, Zeo
from slapos.recipe.erp5.zope.standby_decide import HELD, SERVING
from tests.service import zeo_fixtures
from tests.service.servers import PATIENCE, listens, wait_for
from tests.service.zope_fixtures import Zopes, judged, make_config

TOKEN = "0123456789abcdef0123456789abcdef"


@contextlib.contextmanager
def running(*command: object, log: Path) -> Iterator[subprocess.Popen]:
    """A process, which is ended afterwards."""
    with log.open("ab") as file:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture
def zopes(partition: Path) -> Iterator[Zopes]:
    """Two families of Zopes that serve, on a ZEO server of their own."""
    with zeo_fixtures.running(zeo_fixtures.make_config(partition / "zeo")) as server:
        made = Zopes(make_config(partition / "p", Zeo(server.config.address, "root"), ("web", "jobs")))
        try:
            made.start()
            made.wait(SERVING)
            made.wait(SERVING, "zope-1")
            yield made
        finally:
            made.kill_all()


def act(config: Config, *words: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "slapos.recipe.erp5.zope.actions",
        words[0],
        "--config",
        config.path("etc/zope.json"),
    ]
    return subprocess.run([*command, *words[1:]], capture_output=True, text=True, timeout=PATIENCE)


def test_promises_actions_and_who_answers(zopes: Zopes):
    config = zopes.config
    assert [(one.state, one.error) for one in listening.ask_all(config)] == [("", ""), ("", "")]
    assert judged(zope_listening.RunPromise, config) == (True, ("zope-0, zope-1 answer",))
    assert judged(zope_standby.RunPromise, config) == (True, ("zope-0, zope-1 are serving: its database serves",))
    asked = act(config, "preflight", "hold")
    assert (asked.returncode, asked.stdout.splitlines()[0]) == (
        0,
        "warn: zope-0, zope-1 would answer 503 until released",
    )
    assert act(config, "hold").returncode == 0
    assert {one.state for one in listening.ask_all(config)} == {HELD}
    assert judged(zope_listening.RunPromise, config) == (True, ("zope-0, zope-1 are held back",))
    assert journal.last(config, 1)[0].sentence == "all: held back"
    zopes.end()
    good, (said, *_) = judged(zope_listening.RunPromise, config)
    assert not good
    assert said.startswith("zope-0 does not answer at 127.0.0.1:")
    good, (said,) = judged(zope_standby.RunPromise, config)
    assert not good
    assert said.startswith("no standby supervisor listens on ")


class Page(http.client.HTTPConnection):
    """The control process, on its socket, as nginx talks to it."""

    def __init__(self, path: Path) -> None:
        super().__init__("control")
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def ask(config: Config, path: str) -> str:
    """What it answers to who has the token that only reads."""
    page = Page(config.control_socket)
    page.request("GET", f"/control{path}", headers={"Authorization": f"Bearer {token.read_token(TOKEN)}"})
    answer = page.getresponse()
    assert answer.status == 200, answer.read()
    return answer.read().decode()


def test_the_control_process_tells_how_all_stand(zopes: Zopes):
    config = zopes.config
    config.control_token.parent.mkdir(parents=True, exist_ok=True)
    config.control_token.write_text(TOKEN)
    (config.homes / "gone-0").mkdir()
    control = (sys.executable, "-m", "slapos.recipe.erp5.zope.control", "--config", config.path("etc/zope.json"))
    with running(*control, log=config.path("var/log/control.log")):
        wait_for(lambda: listens(config.control_socket), "the control process")
        wait_for(lambda: json.loads(ask(config, "/status.json"))["at"], "a look")
        told = json.loads(ask(config, "/status.json"))
        assert [(one["name"], one["family"], one["state"]) for one in told["zopes"]] == [
            ("zope-0", "web", SERVING),
            ("zope-1", "jobs", SERVING),
        ]
        assert (told["problems"], told["database"]["state"]) == ([], "RUNNING")
        assert told["summary"] == "zope-0, zope-1 are serving: its database serves"
        assert 'zope_state{family="jobs",state="serving",zope="zope-1"} 1.0' in ask(config, "/metrics")
        assert not (config.homes / "gone-0").exists()


def test_logs_are_rotated_and_zopes_write_new_ones(zopes: Zopes):
    config = zopes.config
    zopes.get("/")
    _, access = config.logs("zope-0")
    wait_for(lambda: access.exists() and access.stat().st_size, "a line in the log of requests")
    command = [sys.executable, "-m", "slapos.recipe.erp5.zope.logs", "--config", config.path("etc/zope.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert not access.exists() and len(list(access.parent.glob(f"{access.name}-*"))) == 1
    zopes.get("/")
    wait_for(lambda: access.exists() and access.stat().st_size, "a line in the new one")


def test_a_log_of_neo_that_a_kill_has_broken_keeps_no_zope_from_starting(partition: Path):
    config = make_config(partition / "p", Zeo("127.0.0.1:1", "root"))
    log = config.neo_log("zope-0")
    log.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert neo_logs.is_broken(log)
    instance.make(config, config.zopes[0])
    assert not log.exists()
    assert len(neo_logs.put_aside(log)) == 1
