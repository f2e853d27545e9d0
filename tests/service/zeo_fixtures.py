# SPDX-License-Identifier: GPL-2.0-or-later
"""ZEO partitions in temporary directories, their servers, and a client of theirs."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervisor
from slapos.recipe.erp5.control.configuration import Control
from slapos.recipe.erp5.zeo import status
from slapos.recipe.erp5.zeo.config import Backup, Config, Software
from tests import zeo_client
from tests.render.partition import complete
from tests.service.servers import PATIENCE, ROOT, free_port, part, render, wait_for, write_program

PROGRAMS = {
    "zeo-start": "start",
    "zeo-backup-now": "backup",
    "zeo-restore": "restore",
    "zeo-rotate-logs": "logs",
    "zeo-control": "control",
}


def make_config(partition: Path, *storages: str, host: str = "127.0.0.1", **changes: Any) -> Config:
    """A Config for a fresh partition in a folder, with its files."""
    for name in ("bin", "etc", "srv/kept", "srv/zodb", "srv/backup/zeo", "var/log", "var/run"):
        (partition / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    config = Config(
        instance="test instance",
        partition=str(partition),
        software=Software(part("zope"), part("logrotate"), part("zstd")),
        host=host,
        port=free_port(host),
        storages=storages or ("root",),
        backup=Backup(enable=True, periodicity="daily", retention_days=7),
        control=Control(host, free_port(host)),
    )
    config = dataclasses.replace(config, **changes)
    write(config)
    for name, module in PROGRAMS.items():
        write_program(config.path("bin", name), f"slapos.recipe.erp5.zeo.{module}")
    return config


def write(config: Config) -> None:
    """(Re)write what its programs and its server read, as processing does."""
    shapes.save(config.path("etc", "zeo.json"), config)
    address = config.address.rpartition(":")[0]
    directory = {"run": config.path("var/run"), "log": config.path("var/log"), "zodb": config.path("srv/zodb")}
    parameters = complete("zeo", {"storages": list(config.storages)})
    text = render(
        "stack/erp5/zeo/zeo.conf.in", parameters=parameters, directory=directory, address=address, port=config.port
    )
    config.conf.write_text(text)


@dataclasses.dataclass
class Server:
    """The ZEO server of a partition, under its supervisor as in production, while it runs."""

    config: Config
    process: subprocess.Popen | None = None

    def start(self) -> None:
        supervise = ROOT / "slapos/recipe/erp5/supervise.py"
        words = ["--name", "zeo", "--run", self.config.path("var/run"), "--", self.config.path("bin/zeo-start")]
        with self.config.path("var/log/service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", supervise, *words, "--config", self.config.path("etc/zeo.json")],
                stdout=log,
                stderr=log,
            )

    def run(self) -> None:
        """Start, and wait until it answers."""
        self.start()
        wait_for(lambda: not status.silence(self.config.host, self.config.port), "a ZEO server that answers")

    def end(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def kill(self) -> None:
        """Kill it at once; its supervisor starts it again."""
        before = self.pid()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.pid() not in (0, before), "another server")

    def pid(self) -> int:
        """Its process, 0 for none."""
        supervised = supervisor.status(self.config.service)
        return supervised.child_pid if supervised else 0

    def log(self) -> str:
        return self.config.path("var/log/service.log").read_text()


@contextlib.contextmanager
def running(config: Config) -> Iterator[Server]:
    """The server of a partition, which answers; nothing of it is left afterwards."""
    server = Server(config)
    try:
        server.run()
        yield server
    finally:
        server.end()


def client(config: Config, do: str, *words: str, storage: str = "root") -> str:
    """Write a name and a value, pack, or read; what is in the root then, as name=value."""
    return zeo_client.run(config.software.program("python"), config.host, config.port, storage, do, *words)


def program(config: Config, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the partition's programs; output and errors together in `stdout`."""
    command = [config.path("bin", name), "--config", config.path("etc/zeo.json"), *words]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        timeout=PATIENCE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def backup(config: Config, *words: str) -> str:
    """A backup now, which has to succeed; what it says."""
    finished = program(config, "zeo-backup-now", *words)
    assert finished.returncode == 0, finished.stdout
    return finished.stdout
