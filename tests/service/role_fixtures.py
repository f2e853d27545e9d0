# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole partitions without SlapOS: mariadbd under its supervisor, nginx, mariadb-control, and the authority."""

import contextlib
import dataclasses
import functools
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import role_state
from slapos.recipe.erp5.mariadb.config import Backup, Config, LogicalBackup, PhysicalBackup
from tests.render.partition import complete
from tests.service import servers, tls_fixtures
from tests.service.acting import Acting
from tests.service.replication_fixtures import address, parameters
from tests.service.servers import ROOT, Service, wait_for

NO_BACKUPS = Backup(LogicalBackup(False, "daily", 7), PhysicalBackup(False, "daily", 7, 6), max_rate=0)


class Instance(Acting):
    """One partition with all its services; `changes` are of its Config."""

    actions_module = "slapos.recipe.erp5.mariadb.actions"

    def __init__(self, name: str, token: str, primary: "Instance | None" = None, **changes: Any) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"e5{name}-", dir="/tmp"))
        (folder / "var/run/nginx").mkdir(parents=True, mode=0o700)
        replica = _replica_of(primary, **changes.pop("replication", {})) if primary else {}
        self.name, self.token = name, token
        self.config = servers.make_config(folder, instance=f"instance {name}", backup=NO_BACKUPS, **replica, **changes)
        self.config.control_token.write_text(token)
        self._write_nginx()
        self.service = Service(self.config, _supervised(self.config, primary is not None))
        self.authority = tls_fixtures.Authority(self.config)
        self.control: subprocess.Popen | None = None
        self.nginx: subprocess.Popen | None = None

    # ---- files

    def _write_nginx(self) -> None:
        config, names = self.config, ("etc", "tmp", "srv", "srv/backup", "var/log", "var/run", "var/run/nginx")
        context = {
            "directory": {name.rpartition("/")[2]: str(config.path(name)) for name in names},
            "parameters": complete("mariadb", {}),
            "address": {"ipv4": config.network.ipv4, "ipv6": config.network.ipv6},
            "port": config.network.backup_port,
            "control_port": config.network.control_port,
            "token": config.secrets.backup_token,
        }
        config.path("etc", "nginx.conf").write_text(servers.render("stack/erp5/mariadb/nginx.conf.in", **context))

    @property
    def json(self) -> str:
        return str(self.config.path("etc", "mariadb.json"))

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.config.network.control_port}"

    @property
    def takeover_url(self) -> str:
        return f"{self.base}/#{self.token}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.config.network.port}"

    @property
    def control_address(self) -> str:
        return self.base.removeprefix("https://")

    # ---- processes

    def start(self) -> None:
        """Everything, until the database answers."""
        self.authority.run()
        assert tls_fixtures.renew_now(self.config) == 0
        self.start_nginx()
        self.start_control()
        self.service.run()

    def start_nginx(self) -> None:
        log, nginx = self.config.path("var/log/nginx-error.log"), Path(servers.part("nginx"), "sbin/nginx")
        command = (nginx, "-e", log, "-p", self.config.path("var/run/nginx"), "-c", self.config.path("etc/nginx.conf"))
        self.nginx = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "OPENSSL_CONF": "/dev/null"},
        )
        wait_for(functools.partial(servers.is_up, self.nginx), "nginx")

    def start_control(self, place: str = "", victim: str = "") -> None:
        """mariadb-control; with `place` it, or `victim`, is killed there (fault.py)."""
        self.config.control_socket.unlink(missing_ok=True)
        command = (place, victim, "slapos.recipe.erp5.mariadb.control", "--config", self.json)
        with self.config.path("var", "log", "control.log").open("ab") as log:
            self.control = subprocess.Popen(
                _fault(*command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        control, path = self.control, self.config.control_socket
        wait_for(lambda: servers.listens(path) or control.poll() is not None, "mariadb-control")
        assert self.control.poll() is None, self.log()

    def kill_control(self) -> None:
        assert self.control
        self.control.kill()
        self.control.wait()

    def kill_server(self) -> int:
        """SIGKILL to mariadbd; its supervisor starts it again."""
        pid = int(self.pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
        return pid

    @property
    def pid_file(self) -> Path:
        return self.config.path("var", "run", "mariadb.pid")

    def stop(self) -> None:
        """Whatever still runs, and the folder."""
        for child in (self.control, self.nginx):
            if child and child.poll() is None:
                child.terminate()
                child.wait(servers.PATIENCE)
        servers.stop_for_good(self.service)
        self.authority.end()
        shutil.rmtree(self.config.partition)

    def log(self) -> str:
        """The end of what its services and programs have logged."""
        logs = (self.config.path("var", "log", f"{name}.log") for name in ("control", "service", "mariadb-error"))
        return "\n".join(f"-- {path}\n{path.read_text(errors='replace')[-4000:]}" for path in logs)

    # ---- its role

    @property
    def state(self) -> role_state.RoleState:
        return role_state.load(self.config)

    # ---- the database

    def query(self, statement: str, *values: object) -> list[tuple]:
        return servers.query(self.config, statement, *values)

    def is_settled(self) -> bool:
        """Whether no change of roles is under way, nor anything that mariadb-control goes on with."""
        state = self.state
        return action.current(self.config) is None and not any((state.fenced, state.hand_over, state.promotion))

    def answers(self) -> bool:
        with contextlib.suppress(ServerError):
            return bool(self.query("SELECT 1"))
        return False

    def role(self) -> tuple[bool, bool]:
        """Whether it is a replica, and whether it is writable."""
        replica, read_only = bool(self.query("SHOW ALL SLAVES STATUS")), self.query("SELECT @@read_only")[0][0]
        return replica, not read_only

    def is_primary(self) -> bool:
        with contextlib.suppress(ServerError):
            return self.role() == (False, True)
        return False

    def follows(self, other: "Instance") -> bool:
        """Whether it replicates from the other one, and nothing is wrong with it."""
        with contextlib.suppress(ServerError):
            found = self.query("SHOW ALL SLAVES STATUS")
            with (
                servers.administrator(self.config) as connection,
                connection.cursor(pymysql.cursors.DictCursor) as cursor,
            ):
                cursor.execute("SHOW ALL SLAVES STATUS")
                rows = cursor.fetchall()
            return bool(found) and (
                rows[0]["Master_Port"],
                rows[0]["Slave_IO_Running"],
                rows[0]["Slave_SQL_Running"],
            ) == (
                other.config.network.port,
                "Yes",
                "Yes",
            )
        return False


def published(instance: Instance) -> str:
    """The replication-primary-url without its account, as somebody may type it."""
    return f"mysql://{instance.address}/?endpoint=https://127.0.0.1:{instance.config.network.backup_port}"


def _fault(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.service.fault", *words]


def _supervised(config: Config, replica: bool) -> Path:
    """The service as SlapOS starts it: the supervisor, and below it the service script."""
    if replica:
        servers.write_program(config.path("bin", "mariadb-install"), "slapos.recipe.erp5.mariadb.install")
        programs, json_file = (shlex.quote(str(config.path(*names))) for names in (("bin",), ("etc", "mariadb.json")))
        install = f'{programs}/mariadb-install --config {json_file} --data-directory "$MARIADB_DATA_DIRECTORY"'
        context = {**servers.service_context(config), "custom_install": install}
        servers.write_script(config.path("bin", "mariadb-service"), context)
    script = config.path("bin", "supervised")
    words = (sys.executable, "-I", "-S", "-B", ROOT / "slapos/recipe/erp5/supervise.py", "--name", "mariadb")
    more = ("--run", config.path("var", "run"), "--", config.path("bin", "mariadb-service"))
    script.write_text("#!/bin/sh\nexec " + " ".join(shlex.quote(str(word)) for word in (*words, *more)) + "\n")
    script.chmod(0o700)
    return script


def _replica_of(primary: Instance, **changes: Any) -> dict[str, Any]:
    config = primary.config
    endpoint = f"https://127.0.0.1:{config.network.backup_port}"
    return {
        "replication": parameters(address(config, endpoint=endpoint), **changes),
        "secrets": dataclasses.replace(config.secrets, administrator_password="another-administrator-6789"),
        "databases": tuple(dataclasses.replace(entry, password="") for entry in config.databases),
        "test_databases": tuple(dataclasses.replace(entry, password="") for entry in config.test_databases),
        "server_id": random.randint(1, 2**31),
    }


# ---- several of them


class Writer:
    """Writes numbered rows wherever it is let, as an application, every few milliseconds, and notes what was taken.

    Where two databases take writes at the same time, rows get lost: some of what was taken is missing at the end.
    """

    def __init__(self, *instances: Instance) -> None:
        self.instances, self.taken = instances, dict[int, tuple[float, str]]()
        self.errors: dict[str, str] = {}
        self._ending = threading.Event()
        # Of the one that was created as a primary: the others do not know it.
        self._entry = next(one.config.databases[0] for one in instances if one.config.databases[0].password)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._connections: dict[str, Connection] = {}
        self._number = max((number for (number,) in self._all(self.instances[0])), default=0)
        self._thread.start()
        try:
            wait_for(lambda: len(self.taken) > 20, "the first rows")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.errors}, {[one.role() for one in self.instances]}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(servers.PATIENCE)

    def _run(self) -> None:
        while not self._ending.is_set():
            for instance in self.instances:
                self._write(instance)
            self._ending.wait(0.002)  # its pace

    def _write(self, instance: Instance) -> None:
        self._number += 1
        try:
            connection = self._connections.get(instance.name) or self._connect(instance)
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO numbered VALUES (%s, %s)", (self._number, instance.name))
            self.taken[self._number] = time.monotonic(), instance.name
        except pymysql.MySQLError as error:
            self.errors[instance.name] = str(error)
            if error.args[0] != 1290:  # read-only
                self._connections.pop(instance.name, None)

    def _connect(self, instance: Instance) -> Connection:
        where = {"host": "127.0.0.1", "port": instance.config.network.port, "connect_timeout": 2, "read_timeout": 5}
        account = {"user": self._entry.user, "password": self._entry.password.encode(), "database": self._entry.name}
        self._connections[instance.name] = pymysql.connect(autocommit=True, ssl_disabled=True, **where, **account)
        return self._connections[instance.name]

    def goes_on(self, instance: Instance) -> None:
        """Wait until the instance, from now on, takes rows."""
        now = time.monotonic()

        def took() -> bool:
            return any(at > now and name == instance.name for at, name in list(self.taken.values())[-50:])

        wait_for(took, f"rows taken by {instance.name}")

    def outage(self, since: float = 0.0) -> float:
        """The longest time between two rows that were taken, the second one after the moment `since` (monotonic).

        At least one has to be.
        """
        taken = [at for at, _ in list(self.taken.values())]  # a copy: the thread goes on
        before = max((at for at in taken if at <= since), default=since)
        moments = [before, *(at for at in taken if at > since)]
        return max(later - earlier for earlier, later in zip(moments, moments[1:], strict=False))

    @staticmethod
    def _all(instance: Instance) -> list[tuple]:
        return instance.query("SELECT a FROM erp5.numbered")

    def assert_kept(self, *instances: Instance) -> None:
        """All that was taken is on each of the instances, sooner or later, and is the same."""
        taken = set(self.taken)
        for instance in instances:
            wait_for(
                lambda instance=instance: taken <= {number for (number,) in self._all(instance)},  # type: ignore[misc]
                f"all rows on {instance.name}",
            )

        def are_the_same() -> bool:  # with what was written, and its answer lost: that comes over a moment later
            first, *others = (sorted(instance.query("SELECT a, b FROM erp5.numbered")) for instance in instances)
            return all(first == other for other in others)

        wait_for(are_the_same, "the same rows everywhere")


@contextlib.contextmanager
def instances(*made: Callable[..., Instance]) -> Iterator[list[Instance]]:
    """Each is called with those before it, and started; all are stopped at the end."""
    found: list[Instance] = []
    try:
        for make in made:
            found.append(make(*found))
            found[-1].start()
            if len(found) == 1:
                found[0].query("CREATE TABLE erp5.numbered (a BIGINT PRIMARY KEY, b VARCHAR(20)) ENGINE=InnoDB")
            else:
                wait_for(lambda: found[-1].follows(found[0]), "the replica")
        yield found
    finally:
        for instance in reversed(found):
            instance.stop()


TOKENS = ("a" * 32, "b" * 32)


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Instance]]:
    """Two partitions: which one is the primary changes from test to test."""
    with instances(lambda: Instance("P", TOKENS[0]), lambda primary: Instance("R", TOKENS[1], primary)) as found:
        yield found


@pytest.fixture
def roles(pair) -> tuple[Instance, Instance]:
    """The primary and its replica, both well, and with nothing that mariadb-control has still to do."""
    wait_for(lambda: any(one.is_primary() for one in pair), "a primary")
    primary, replica = sorted(pair, key=lambda one: not one.is_primary())
    wait_for(lambda: replica.follows(primary), "the replica")
    wait_for(lambda: all(one.is_settled() for one in pair), "the end of what the test before began")
    return primary, replica
