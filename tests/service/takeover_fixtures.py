# SPDX-License-Identifier: GPL-2.0-or-later
"""A primary and its replica that each test begins with anew, writers, and programs that are killed at a given step."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.config import Config
from tests.service import servers
from tests.service.replication_fixtures import KeptPair, Pair, kept_pair
from tests.service.servers import query, wait_for

PROGRAM = """
import importlib, os, signal, sys
module, name, when, victim = sys.argv[1:5]
owner = importlib.import_module("slapos.recipe.erp5.mariadb." + module)
original = getattr(owner, name)

def instead(*arguments, **options):
    result = original(*arguments, **options) if when == "after" else None
    os.kill(int(victim) or os.getpid(), signal.SIGKILL)
    return result if when == "after" else original(*arguments, **options)

setattr(owner, name, instead)
sys.argv[1:] = sys.argv[5:]
from slapos.recipe.erp5.mariadb.actions import main
sys.exit(main())
"""
Point = tuple[str, str, str]
"""A module, a function of it, and before or after: where something is killed."""


@pytest.fixture(scope="module")
def made() -> Iterator[KeptPair]:
    with kept_pair(
        "CREATE TABLE erp5.t (a INT PRIMARY KEY, b VARCHAR(300))",
        "CREATE DEFINER = 'erp5_user'@'localhost' EVENT erp5.e ON SCHEDULE EVERY 1 HOUR DO SELECT 1",
    ) as made:
        yield made


@pytest.fixture
def pair(made: KeptPair) -> Iterator[Pair]:
    """Both running and caught up, as they were made."""
    with made.begun() as pair:
        yield pair


def run(config: Config, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One of the programs in bin, such as run(config, "takeover", "--force")."""
    action, *more = arguments
    command = [sys.executable, "-m", "slapos.recipe.erp5.mariadb.actions", action, "--config", _json(config), *more]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def run_killed(config: Config, point: Point, *arguments: str, server: bool = False) -> subprocess.CompletedProcess[str]:
    """The same, and at `point` it is killed (SIGKILL), or with `server` its mariadbd is."""
    action, *more = arguments
    victim = config.path("var", "run", "mariadb.pid").read_text().strip() if server else "0"
    command = [sys.executable, "-c", PROGRAM, *point, victim, action, "--config", _json(config), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _json(config: Config) -> str:
    return str(config.path("etc", "mariadb.json"))


def said(finished: subprocess.CompletedProcess[str]) -> str:
    """The last line that a program logged, without its time."""
    return finished.stderr.splitlines()[-1][20:]


def insert(config: Config, numbers: range) -> None:
    with servers.administrator(config) as connection:
        for number in numbers:
            sql.execute(connection, "INSERT INTO erp5.t VALUES (%s, REPEAT('x', 300))", (number,))


def rows(config: Config) -> list[int]:
    return [number for (number,) in query(config, "SELECT a FROM erp5.t ORDER BY a")]


def is_writable(config: Config) -> bool:
    """Whether an application can write."""
    try:
        with servers.login(config, "erp5_user", servers.NASTY_PASSWORD, "erp5", "localhost") as connection:
            sql.execute(connection, "CREATE OR REPLACE TABLE erp5.probe (a INT)")
            return True
    except sql.ServerError as error:
        assert "(1290)" in str(error), error  # read-only, and nothing else
        return False


def received(config: Config) -> str:
    with servers.administrator(config) as connection:
        (row,) = sql.rows(connection, "SHOW ALL SLAVES STATUS")
    return str(row["Gtid_IO_Pos"])


@contextlib.contextmanager
def applying_held(config: Config) -> Iterator[Callable[[], None]]:
    """The replica receives and cannot apply what is written to erp5.t, until the function that comes is called."""
    connection = servers.administrator(config)
    sql.execute(connection, "LOCK TABLES erp5.t READ")
    released = threading.Event()

    def release() -> None:
        if not released.is_set():
            released.set()
            connection.close()

    try:
        yield release
    finally:
        release()


def receive_without_applying(pair: Pair, numbers: range) -> None:
    """Rows that the replica has received, and not applied; the primary is killed then."""
    query(pair.replica.config, "STOP SLAVE SQL_THREAD")
    insert(pair.primary.config, numbers)
    position = query(pair.primary.config, "SELECT @@gtid_binlog_pos")[0][0]
    wait_for(lambda: received(pair.replica.config) == position, "the replica to receive")
    pair.primary.kill()


class Writer:
    """Writes numbered rows as an application, and notes each that was acknowledged, until it is refused."""

    def __init__(self, config: Config) -> None:
        self.acknowledged: list[int] = []
        self.error: Exception | None = None
        self._config = config
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with servers.login(self._config, "erp5_user", servers.NASTY_PASSWORD, "erp5", "localhost") as connection:
                connection.autocommit(True)
                number = 10000
                while True:
                    with connection.cursor() as cursor:
                        cursor.execute("INSERT INTO t VALUES (%s, REPEAT('y', 300))", (number,))
                    self.acknowledged.append(number)
                    number += 1
        except Exception as error:  # noqa: BLE001
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def state(config: Config) -> dict[str, Any]:
    """`srv/role/state.json`."""
    import json

    path = config.path("srv", "role", "state.json")
    return json.loads(path.read_text()) if path.exists() else {}
