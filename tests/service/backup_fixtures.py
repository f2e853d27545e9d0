# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition laid out as in production, from the real templates, with real servers; for tests of backups and jobs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pymysql
import pytest

from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import create
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import files
from tests.render.partition import complete
from tests.service import servers

ROOT = Path(__file__).parents[2]
PARTS = Path(os.environ["ERP5_RELEASE"], "parts")
TOKEN = "Kx3-test_token-9QzW"
DEADLINE = 120
"""Seconds after which something that should have happened has not."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE):
    """The first true value of `condition()`, looked at again and again until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return value


_ports = iter(servers.share(range(24000, 32000))[os.getpid() % 2000 // 2 * 2 :: 2])  # an authority has the next one too


def free_port(*addresses: str) -> int:
    """A port below the ephemeral ones that is free on all `addresses` now, and was not given before."""
    for port in _ports:
        try:
            for address in addresses:
                with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
                    server.bind((address, port))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


class Partition:
    """A partition in a short temporary folder, its Config, and the processes that run in it."""

    def __init__(
        self,
        folder: Path,
        ipv6: str = "",
        tls: bool = True,
        physical: Mapping[str, object] | None = None,
        **backup: object,
    ):
        self.tls = tls
        self.folder, self.backup = folder, {"enable": True, "periodicity": "daily", "retention-days": 7, **backup}
        self.physical, self.max_rate = dict(physical or {}), 0
        names = ("etc", "tmp", "srv/backup", "var/log", "var/run/nginx")
        for name in names:
            (folder / name).mkdir(parents=True, mode=0o700)
        self.directory = {name.rpartition("/")[2]: str(folder / name) for name in (*names, "srv", "var", "var/run")}
        self.address = {"ipv4": "127.0.0.1", "ipv6": ipv6}
        self.port, self.backup_port, self.caucased_port, self.control_port = (
            free_port(*filter(None, ("127.0.0.1", ipv6))) for _ in range(4)
        )
        self.json = folder / "etc" / "mariadb.json"
        files.ensure(folder / "srv" / "tls", self.address.values())
        self.processes: list[subprocess.Popen] = []
        self.write_configuration()

    # -- configuration

    def write_configuration(self, **logical: object) -> None:
        """Render etc/ from the real templates; `logical` replaces values of backup.logical."""
        self.backup |= logical
        backup = {"logical": self.backup, "physical": self.physical, "max-rate": self.max_rate}
        parameters = complete("mariadb", {"backup": backup})
        parameters |= {"replicas-use-tls": self.tls}
        parameters |= {"innodb-log-file-size": 8 << 20, "innodb-buffer-pool-size": 32 << 20, "long-query-time": 0.2}
        release = {path.name: str(path) for path in PARTS.iterdir()}
        release["zoneinfo"] = release["tzdata"] + "/usr/share/zoneinfo"
        context = {
            "json": json,
            "parameters": parameters,
            "release": release,
            "mariadb": release["mariadb"],
            "directory": self.directory,
            "address": self.address,
            "accounts": {"databases": [], "test-databases": []},
            "instance": "test",
            "partition": str(self.folder),
            "server_id": 7,
            "administrator_password": "ADMINISTRATOR",
            "replication_password": "REPLICATION",
            "backup_token": TOKEN,
            "token": TOKEN,
            "caucased_port": self.caucased_port,
            "control_port": self.control_port,
            "replication": None,
            "replication_user": "replication_user",
            "authority": "",
            "authority_differs": False,
        }
        self._render("mariadb.cnf", {**context, "port": self.port})
        self._render("mariadb.json", {**context, "port": self.port, "backup_port": self.backup_port})
        self._render("nginx.conf", {**context, "port": self.backup_port})

    def _render(self, name: str, context: Mapping[str, object]) -> None:
        new = self.folder / "etc" / f".{name}"
        new.touch(mode=0o600)
        new.write_text(servers.render(f"stack/erp5/mariadb/{name}.in", **context))
        new.rename(self.folder / "etc" / name)

    @property
    def config(self) -> Config:
        return configuration.load(self.json)

    # -- processes

    def spawn(self, *command: str | Path, **options) -> subprocess.Popen:
        """Start a process that stop() ends."""
        environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
        options = {"stdin": subprocess.DEVNULL, "env": environment, **options}
        child = subprocess.Popen([str(word) for word in command], **options)
        self.processes.append(child)
        return child

    def python(self, module: str, *arguments: str, **options) -> subprocess.Popen:
        """Start one of our programs with this partition's configuration."""
        command = (sys.executable, "-m", f"slapos.recipe.erp5.{module}", "--config", self.json, *arguments)
        return self.spawn(*command, **{"stderr": subprocess.PIPE, "text": True, **options})

    def run(self, module: str, *arguments: str, **options) -> tuple[int, list[str]]:
        """Run one of our programs; its exit code, and what it said, line by line without the time."""
        child = self.python(module, *arguments, **options)
        said = child.communicate(timeout=DEADLINE)[1]
        return child.returncode, [line.split(" ", 2)[2] for line in said.splitlines()]

    def start_server(self, data: Path | None = None, *options: str) -> None:
        """Start mariadbd, on a copy of the data directory `data` when given."""
        if data:
            shutil.copytree(data, self.config.data_directory)
        program, defaults = PARTS / "mariadb/sbin/mariadbd", f"--defaults-file={self.config.defaults_file}"
        self.server = self.spawn(program, defaults, *options, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "mariadbd's answer")

    def _answers(self) -> bool:
        assert self.server.poll() is None, self.config.error_log.read_text()
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True

    def stop_server(self) -> None:
        self.server.terminate()
        self.server.wait(DEADLINE)

    def start_nginx(self) -> subprocess.Popen:
        """Start nginx as the instance template does."""
        log, nginx = self.folder / "var/log/nginx-error.log", PARTS / "nginx/sbin/nginx"
        command = (nginx, "-e", log, "-p", self.directory["nginx"], "-c", self.folder / "etc/nginx.conf")
        environment = {"PATH": os.environ["PATH"], "OPENSSL_CONF": "/dev/null"}
        child = self.spawn(*command, stderr=subprocess.DEVNULL, env=environment)
        wait_until(self.config.nginx_pid.exists, "nginx's pid file")
        return child

    def stop(self) -> None:
        """End all processes that were started here."""
        for child in self.processes:
            child.terminate()
        for child in self.processes:
            try:
                child.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                child.kill()
            for pipe in (child.stdout, child.stderr):
                if pipe:
                    pipe.close()

    # -- SQL

    def connect(self, **options) -> pymysql.connections.Connection:
        """A connection as the administrator."""
        defaults = str(self.config.defaults_file)
        return pymysql.connect(read_default_file=defaults, charset="utf8mb4", autocommit=True, **options)

    def sql(self, *statements: str) -> list[tuple]:
        """Execute statements; the rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def client(self, source: bytes, *options: str) -> None:
        """Let the client program execute `source`."""
        defaults = f"--defaults-file={self.config.defaults_file}"
        program = PARTS / "mariadb/bin/mariadb"
        subprocess.run([program, defaults, "--local-infile=0", *options], input=source, check=True)


@pytest.fixture(scope="session")
def empty_data() -> Iterator[Path]:
    """A data directory with nothing in it but the administration account, to be copied."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        partition = Partition(Path(folder))
        config = partition.config
        command = [f"{config.software.mariadb}/bin/mariadb-install-db", f"--defaults-file={config.defaults_file}"]
        subprocess.run([*command, "--skip-log-bin", "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
        init = Path(folder, "init.sql")
        init.write_text(create.administrator_sql(config))
        partition.start_server(None, f"--init-file={init}", "--skip-log-bin")
        partition.stop()
        yield config.data_directory


@pytest.fixture
def new_partition() -> Iterator[Callable[..., Partition]]:
    """Makes partitions that live as long as the test."""
    made: list[Partition] = []

    def make(**options) -> Partition:
        made.append(Partition(Path(tempfile.mkdtemp(prefix="b", dir="/tmp")), **options))
        return made[-1]

    yield make
    for partition in made:
        partition.stop()
        shutil.rmtree(partition.folder)


@pytest.fixture
def partition(new_partition: Callable[..., Partition]) -> Partition:
    """A partition with nothing running in it."""
    return new_partition()


@pytest.fixture
def server(partition: Partition, empty_data: Path) -> Partition:
    """A partition with a running, empty mariadbd."""
    partition.start_server(empty_data)
    return partition
