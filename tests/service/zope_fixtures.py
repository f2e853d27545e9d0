# SPDX-License-Identifier: GPL-2.0-or-later
"""Zopes under their standby supervisor in a temporary partition, on a cluster of NEO or on a ZEO server."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervise
from slapos.recipe.erp5.control.configuration import Control
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config, Instance, Neo, Software, User, Zeo
from slapos.recipe.erp5.zope.standby_state import Standing
from tests import zope_pages
from tests.service.neo_fixtures import Cluster
from tests.service.servers import PATIENCE, ROOT, free_port, part, wait_for, write_program
from tests.zope_pages import Page, Watcher

SCRIPTS = ROOT / "slapos/recipe/erp5/py2"
USER = User("admin", "a secret of $5")


def make_config(
    partition: Path, database: Cluster | Neo | Zeo, families: Sequence[str] = ("web",), **changes
) -> Config:
    """A partition with one Zope for each of `families`, called zope-0, zope-1 and so on, and its file etc/zope.json."""
    for name in ("bin", "etc", "srv", "var/log", "var/run"):
        (partition / name).mkdir(parents=True, exist_ok=True)
    database = neo_of(database) if isinstance(database, Cluster) else database
    config = Config(
        instance="Zopes of a test",
        partition=str(partition),
        software=software(),
        neo=database if isinstance(database, Neo) else None,
        zeo=database if isinstance(database, Zeo) else None,
        zopes=tuple(
            Instance(f"zope-{number}", family, "127.0.0.1", free_port(), 2) for number, family in enumerate(families)
        ),
        inituser=USER,
        zodb_cache_size=5000,
        products=(),
        hold=(),
        control=Control("127.0.0.1", free_port()),
    )
    config = dataclasses.replace(config, **changes)
    shapes.save(partition / "etc" / "zope.json", config)
    programs = ("certificates", "hold", "standby", "start")
    for program, module in {f"zope-{name}": name for name in programs}.items():
        write_program(partition / "bin" / program, f"slapos.recipe.erp5.zope.{module}")
    return config


def software(**changes: str) -> Software:
    found = Software(
        zope=part("zope") + "/bin/python",
        zope_serve=str(SCRIPTS / "zope_serve.py"),
        neo=part("neoppod") + "/bin/python",
        neo_ask=str(SCRIPTS / "neo_ask.py"),
        logrotate=part("logrotate"),
        zstd=part("zstd"),
    )
    return dataclasses.replace(found, **changes)


def neo_of(cluster: Cluster) -> Neo:
    tls = tuple(str(path) for path in cluster.tls)
    return Neo(cluster.name, tuple(cluster.of("master")), tuple(cluster.of("admin")), tls)


class Zopes:
    """The standby supervisor of a partition, and what can be asked of it and of its Zopes."""

    def __init__(self, config: Config) -> None:
        self.config, self.log_file = config, config.path("var", "log", "standby.log")
        self.process: subprocess.Popen | None = None
        self.seen: set[int] = set()

    def start(self) -> None:
        words = [self.config.path("bin", "zope-standby"), "--config", self.config.path("etc", "zope.json")]
        words += ["--start", self.config.path("bin", "zope-start")]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        pid = self.process.pid
        # The file of an earlier one may still be there.
        wait_for(lambda: (found := self.standing()) and found.pid == pid, "a supervisor that tells how all stand")

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def standing(self) -> Standing | None:
        """How all stand; None without a supervisor."""
        assert self.process and self.process.poll() is None, f"the supervisor ended: {self.log()[-3000:]}"
        found = standby_state.status(self.config.run)
        if found:
            self.seen |= {zope.child_pid for zope in found.zopes if zope.child_pid}
        return found

    def zope(self, name: str = "zope-0") -> standby_state.Zope:
        found = self.standing()
        assert found
        return found.zope(name)

    def wait(self, state: str, name: str = "zope-0") -> standby_state.Zope:
        """Until a Zope is in a state."""
        found: list[standby_state.Zope] = []

        def reached() -> bool:
            now = self.standing()
            found[:] = [now.zope(name)] if now and now.zope(name).state == state else []
            return bool(found)

        try:
            wait_for(reached, f"{name} to be {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.log()[-4000:]}") from error
        return found[0]

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the supervisor; nothing of its Zopes may be left."""
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(AssertionError):
                self.standing()
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
        wait_for(lambda: not self.left(), "the end of all Zopes")

    def left(self) -> list[int]:
        return [pid for group in self.seen for pid in supervise.members(group)]

    def kill_all(self) -> None:
        """However it stands."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(AssertionError):
                self.standing()
            self.process.kill()
            self.process.wait()
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- its Zopes' pages

    def get(self, path: str, name: str = "zope-0", timeout: float = PATIENCE, **form: str) -> Page:
        """An answer on the port of a Zope; with `form` as its initial user. Raises OSError and HTTPException."""
        return zope_pages.get(self.config, path, name, timeout, **form)

    def write(self, text: str, name: str = "zope-0") -> None:
        """Let /page show a text."""
        zope_pages.write(self.config, text, name)

    def read(self, name: str = "zope-0") -> str:
        return zope_pages.read(self.config, name)


def judged(promise: type, config: Config) -> tuple[bool, tuple[str, ...]]:
    """What a promise finds."""
    verdict = promise.judge(promise, config)  # type: ignore[attr-defined]
    return verdict.good, verdict.sentences


def watching(zopes: Zopes) -> contextlib.AbstractContextManager[Watcher]:
    """Asks zope-0 for /page all along."""
    return zope_pages.watching(lambda: zopes.get("/page"))


def read_json(path: Path) -> object:
    return json.loads(path.read_text())
