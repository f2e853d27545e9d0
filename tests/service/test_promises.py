# SPDX-License-Identifier: GPL-2.0-or-later
"""Promises run as a node runs them, on real servers in real trouble: what they say, and that nobody is woken by it."""

import contextlib
import dataclasses
import http.server
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pymysql
import pytest
from slapos.grid.promise import PromiseError, PromiseLauncher
from slapos.recipe.promise_plugin import Recipe as PluginRecipe

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.mariadb import manifest, provision, status
from slapos.recipe.erp5.tls.context import anonymous_context
from slapos.recipe.erp5.tls.files import Files
from tests.service.backup_fixtures import Partition, empty_data, free_port, new_partition, partition, server, wait_until

__all__ = ["empty_data", "new_partition", "partition", "server"]

USER = "replication_user"
# A promise that does what ours must not: it proves that a bang would have been seen.
BANGING = """
from zope.interface import implementer
from slapos.grid.promise import interface
from slapos.grid.promise.generic import GenericPromise

@implementer(interface.IPromise)
class RunPromise(GenericPromise):
    def sense(self):
        self.logger.error("bad")
"""


class Master(http.server.ThreadingHTTPServer):
    """A Master that notes what it is asked, and refuses it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        for port in range(17000 + os.getpid() % 900, 18000):  # not where partitions look for theirs
            with contextlib.suppress(OSError):
                super().__init__(("127.0.0.1", port), Handler)
                break
        else:
            raise AssertionError("no port is free")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Master

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.send_error(404)

    do_POST = do_PUT = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ready(server: Partition) -> Partition:
    """A partition with a running mariadbd that has its replication account."""
    provide_accounts(server)
    return server


def provide_accounts(partition: Partition) -> None:
    """Create what the parameters ask for, of which here only the replication account is left."""
    with partition.connect() as connection:
        provision.create_all(partition.config, connection)


class Node:
    """Runs the promises of a partition as slapgrid does, and asserts what every red promise has to respect."""

    def __init__(self, partition: Partition, master: Master, *modules: str) -> None:
        self.folder, self.master = partition.folder, master
        self.plugins = self.folder / "etc" / "plugin"
        self.plugins.mkdir(exist_ok=True)
        for module in modules:
            self._write_plugin(module, partition.json)

    def _write_plugin(self, module: str, config_file: Path) -> None:
        """What `slapos.cookbook:promise.plugin` makes of the profile's section."""
        options = {
            "module": f"slapos.recipe.erp5.promise.{module}",
            "output": str(self.plugins / f"{module}.py"),
            "config-config-file": str(config_file),
            "eggs": "",
        }
        buildout = {"buildout": {"eggs-directory": "", "develop-eggs-directory": "", "offline": "true"}}
        PluginRecipe(buildout, module, options).install()

    def launch(self, check_anomaly: bool) -> str | None:
        """One run of all promises; the PromiseError with which it ended, or None."""
        launcher = PromiseLauncher(
            {
                "promise-folder": str(self.plugins),
                "legacy-promise-folder": str(self.folder / "etc" / "promise"),
                "partition-folder": str(self.folder),
                "log-folder": str(self.folder / ".slapgrid" / "promise" / "log"),
                "check-anomaly": check_anomaly,
                "force": True,
                "master-url": self.master.url,
                "computer-id": "COMP-1",
                "partition-id": "slappart0",
            }
        )
        try:
            launcher.run()
        except PromiseError as error:
            return str(error)
        return None

    def result(self, module: str) -> dict:
        file = self.folder / ".slapgrid" / "promise" / "result" / f"{module}.status.json"
        return json.loads(file.read_text())["result"]

    def red(self, module: str) -> str:
        """The message of the failing promise `module`, once it has neither banged nor failed a processing."""
        assert self.launch(check_anomaly=False) is None, "a processing would fail, and be repeated for ever"
        for _ in range(2):
            assert self.launch(check_anomaly=True)
            result = self.result(module)
            assert (result["type"], result["failed"]) == ("Test Result", True)
        assert self.master.requests == [], "it banged"
        return result["message"]

    def green(self, module: str) -> str:
        """The message of the promise `module`, which is well, as all are."""
        assert self.launch(check_anomaly=False) is None
        assert self.launch(check_anomaly=True) is None
        result = self.result(module)
        assert (result["type"], result["failed"]) == ("Test Result", False)
        return result["message"]


def ours(partition: Partition) -> str:
    return f"server id 7 with its data in {partition.config.data_directory}"


# ---- the harness itself


def test_a_bang_would_be_seen(partition, master):
    node = Node(partition, master)
    (node.plugins / "banging.py").write_text(BANGING)
    assert "'banging.py' failed with output: bad" in (node.launch(check_anomaly=False) or "")
    assert master.requests == []
    assert "'banging.py' failed with output: bad" in (node.launch(check_anomaly=True) or "")
    assert master.requests


# ---- the server


def test_a_good_server(ready, master):
    message = Node(ready, master, "mariadb_server").green("mariadb_server")
    expected = (
        rf"MariaDB 10\.11\.\S+ with server id 7 answers on {ready.folder}/var/run/mariadb.sock and "
        rf"127\.0\.0\.1:{ready.port}, up for \d+ (s|min)"
    )
    assert re.fullmatch(expected, message), message


def test_asking_leaves_no_trace_in_log_and_counters(ready):
    assert status.server(ready.config).network[0].identity
    before = ready.config.error_log.read_text()
    for _ in range(3):
        assert status.server(ready.config).network[0].identity
    assert ready.config.error_log.read_text() == before
    assert ready.sql("SHOW GLOBAL STATUS LIKE 'Aborted%'") == [
        ("Aborted_clients", "0"),
        ("Aborted_connects", "0"),
        ("Aborted_connects_preauth", "0"),
    ]


def test_ipv6_where_the_account_requires_a_certificate(new_partition, empty_data, master):
    """The probe presents the partition's own; without it the server's refusal is an answer all the same."""
    six = new_partition(ipv6="::1")
    six.start_server(empty_data)
    provide_accounts(six)
    node = Node(six, master, "mariadb_server")
    message = node.green("mariadb_server")
    assert "cannot log in" not in message
    assert f" and 127.0.0.1:{six.port} and [::1]:{six.port}, up for " in message
    Files(six.config.tls).client.unlink()
    message = node.green("mariadb_server")
    assert message.endswith(f"; replication_user cannot log in on 127.0.0.1:{six.port} and [::1]:{six.port}")


def test_a_changed_replication_password_is_told_and_no_failure(ready, master):
    ready.sql("ALTER USER replication_user@'%.%.%.%' IDENTIFIED BY 'another'")
    message = Node(ready, master, "mariadb_server").green("mariadb_server")
    assert message.endswith(f"; replication_user cannot log in on 127.0.0.1:{ready.port}")


def test_a_killed_server_and_one_that_comes_back(ready, master):
    node = Node(ready, master, "mariadb_server")
    ready.server.kill()
    ready.server.wait()
    words = "[Errno 111] Connection refused"
    assert node.red("mariadb_server") == (
        f"no server answers on {ready.config.socket} (Can't connect to MySQL server on 'localhost' ({words}) (2003)), "
        f"expected {ours(ready)}: read var/log/mariadb-error.log, "
        "and process the instance (slapos node instance --all) to start the service"
    )
    ready.start_server()
    assert "answers on" in node.green("mariadb_server")


def test_a_server_that_hangs(ready, master):
    node = Node(ready, master, "mariadb_server")
    ready.server.send_signal(signal.SIGSTOP)
    try:
        message = node.red("mariadb_server")
    finally:
        ready.server.send_signal(signal.SIGCONT)
    # Our own sentence, not that of slapos about a promise that took 20 s.
    assert message.startswith(f"no server answers on {ready.config.socket} (")
    assert "timed out" in message
    assert message.count("\n") == 0


def test_a_database_that_is_being_created(partition, empty_data, master):
    node = Node(partition, master, "mariadb_server")
    partition.folder.joinpath("srv", "mariadb.new").mkdir()
    log = partition.folder / f".slappart0_mariadb-{'0' * 32}.log"
    log.write_text("2026-11-22 10:00:00 step: make the system tables\n")
    with process.lock(partition.folder / "srv" / "mariadb.lock", "busy"):
        assert node.red("mariadb_server") == (
            "the database is being created (last step: make the system tables), expected one that answers: "
            "wait, this ends by itself, and if it does not the service's log says why"
        )
    assert node.red("mariadb_server").startswith("the creation of the database has stopped (no reason in the log), ")
    partition.start_server(empty_data)
    provide_accounts(partition)
    assert "answers on" in node.green("mariadb_server")


def test_another_server_on_the_port_of_one_that_is_down(new_partition, empty_data, master):
    mine, other = new_partition(), new_partition()
    mine.config.data_directory.mkdir()
    other.start_server(empty_data, f"--port={mine.port}", "--server-id=8")
    provide_accounts(other)
    other.sql("ALTER USER replication_user@'%.%.%.%' REQUIRE NONE")
    down, foreign = Node(mine, master, "mariadb_server").red("mariadb_server").splitlines()
    assert down.startswith(f"no server answers on {mine.config.socket} (")
    assert foreign == (
        f"the server on 127.0.0.1:{mine.port} has server id 8 and its data in {other.config.data_directory}, "
        f"expected {ours(mine)}: stop it if it is not this instance's, and restart the service"
    )


def test_another_server_on_our_port_which_refuses_us(new_partition, empty_data, master):
    mine, other = new_partition(), new_partition()
    other.start_server(empty_data, f"--port={mine.port}", "--server-id=8")
    provide_accounts(other)
    other.sql("ALTER USER replication_user@'%.%.%.%' IDENTIFIED BY 'its own'")
    port = free_port("127.0.0.1")
    mine.start_server(empty_data, f"--port={port}")
    assert Node(mine, master, "mariadb_server").red("mariadb_server") == (
        f"a server refuses replication_user on 127.0.0.1:{mine.port} (Access denied for user "
        f"'replication_user'@'127.0.0.1' (using password: YES) (1045)), expected {ours(mine)}, which listens on port "
        f"{port} of 127.0.0.1: stop what holds the port if something does, and restart the service"
    )


def test_something_on_our_port_that_says_nothing(new_partition, empty_data, master):
    mine = new_partition()
    other = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", mine.port)):
        mine.start_server(empty_data, f"--port={other}")
        message = Node(mine, master, "mariadb_server").red("mariadb_server")
    assert message.startswith(f"no server answers on 127.0.0.1:{mine.port} (")
    assert message.endswith(
        f"), expected {ours(mine)}, which listens on port {other} of 127.0.0.1: "
        "stop what holds the port if something does, and restart the service"
    )


def test_a_network_that_is_off_though_nobody_asked_for_it(new_partition, empty_data, master):
    mine = new_partition()
    mine.start_server(empty_data, "--skip-networking")
    assert Node(mine, master, "mariadb_server").red("mariadb_server") == (
        f"the server on {mine.config.socket} has its network off, expected it to listen on 127.0.0.1:{mine.port}: "
        "mariadb-control restarts the service for that within two minutes; if it does not, write restart into "
        f"{mine.config.path('var', 'run', 'mariadb.supervise')}"
    )


def test_no_connection_is_left_over_tcp(ready, master):
    ready.sql("SET GLOBAL max_connections = 10")
    with contextlib.ExitStack() as stack:
        client = {"user": USER, "password": "REPLICATION", "ssl": anonymous_context(Files(ready.config.tls))}
        for _ in range(10):
            stack.enter_context(pymysql.connect(host="127.0.0.1", port=ready.port, **client))
        assert Node(ready, master, "mariadb_server").red("mariadb_server") == (
            f"no server answers on 127.0.0.1:{ready.port} (Too many connections (1040)), expected {ours(ready)}, which "
            "answers on its socket: raise max-connection-count if it has too many, else look for a firewall or a "
            "missing address"
        )


# ---- backups


def age(partition: Partition, days: int) -> None:
    """Make the database and its backups as if all had been made so many days earlier."""
    config = partition.config
    for path in (config.data_directory / "mysql").glob("*.frm"):
        os.utime(path, (path.stat().st_mtime - days * 86400,) * 2)
    if entries := manifest.load(config.dumps):
        manifest.save(config.dumps, [_earlier(entry, days) for entry in entries])


def _earlier(entry: manifest.Entry, days: int) -> manifest.Entry:
    start, end = (times.text(times.parse(moment) - timedelta(days=days)) for moment in (entry.start, entry.end))
    return dataclasses.replace(entry, start=start, end=end)


def test_backups_by_a_living_scheduler_then_by_a_dead_one(ready, master):
    node = Node(ready, master, "mariadb_backup")
    assert "the scheduler never ran" in node.red("mariadb_backup")
    scheduler = ready.python("mariadb.control")
    wait_until(lambda: manifest.load(ready.config.dumps), "the first backup")
    wait_until(lambda: state.load(ready.config.scheduler_state).job("logical-backup").outcome == "done", "its end")
    (newest,) = manifest.load(ready.config.dumps)
    message = node.green("mariadb_backup")
    assert message.startswith(f"the newest backup is {newest.name} of {newest.start}, ")
    scheduler.kill()
    scheduler.wait()
    known = state.load(ready.config.scheduler_state)
    heartbeat = times.text(times.parse(known.heartbeat) - timedelta(hours=3))
    state.save(ready.config.scheduler_state, dataclasses.replace(known, heartbeat=heartbeat))
    assert node.red("mariadb_backup") == (
        f"the scheduler's last sign of life is 3 h old ({heartbeat}), expected one every 30 s: read the log of the "
        "service mariadb-control, and process the instance (slapos node instance --all) to start it"
    )


def test_an_old_backup_and_a_new_one(ready, master):
    node = Node(ready, master, "mariadb_backup")
    state.save(ready.config.scheduler_state, state.State(heartbeat=times.text(times.now())))
    assert node.green("mariadb_backup") == "there is no backup yet"
    age(ready, 4)
    assert node.red("mariadb_backup").startswith(f"there is no backup in {ready.config.dumps}, expected one begun at ")
    assert ready.run("mariadb.backup")[0] == 0
    assert node.green("mariadb_backup").startswith("the newest backup is ")
    age(ready, 4)
    (entry,) = manifest.load(ready.config.dumps)
    message = node.red("mariadb_backup")
    expected = (
        rf"the newest backup, {re.escape(entry.name)}, was begun 4 days ago in {ready.config.dumps}, expected one "
        r"begun at \d{4}-\d\d-\d\dT00:00:00Z or later \(backup\.logical\.periodicity is daily\): "
        r"run bin/mariadb-dump-script"
    )
    assert re.fullmatch(expected, message), message
    ready.write_configuration(enable=False)
    assert node.green("mariadb_backup").startswith(
        f"scheduled backups are off (backup.logical.enable is false); the newest backup is {entry.name} of "
    )


def test_physical_backups_are_judged_as_well(ready, master):
    node = Node(ready, master, "mariadb_backup")
    state.save(ready.config.scheduler_state, state.State(heartbeat=times.text(times.now())))
    ready.physical = {"enable": True, "periodicity": "hourly"}
    ready.write_configuration()
    age(ready, 4)
    for module in ("mariadb.backup", "mariadb.physical"):
        assert ready.run(module)[0] == 0
    message = node.green("mariadb_backup")
    dump, copy = (manifest.newest(manifest.load(f)) for f in (ready.config.dumps, ready.config.physical_backups))
    assert f"the newest backup is {dump.name} of " in message and f"the newest backup is {copy.name} of " in message
    (ready.config.physical_backups / copy.name).unlink()
    message = node.red("mariadb_backup")
    expected = (
        rf"the newest backup, {re.escape(copy.name)}, is no longer a file of {copy.size} bytes in "
        rf"{ready.config.physical_backups}, expected one begun at \d{{4}}-\d\d-\d\dT\d\d:00:00Z or later "
        r"\(backup\.physical\.periodicity is hourly\): run bin/mariadb-physical-backup-script"
    )
    assert re.fullmatch(expected, message), message


# ---- disk


def test_disk(ready, master):
    node = Node(ready, master, "mariadb_disk")
    assert " for the next backup (the tables have " in node.green("mariadb_disk")
    assert ready.run("mariadb.backup")[0] == 0
    assert " for the next backup (the newest has " in node.green("mariadb_disk")
    (entry,) = manifest.load(ready.config.dumps)
    manifest.save(ready.config.dumps, [dataclasses.replace(entry, size=1 << 50)])
    message = node.red("mariadb_disk")
    expected = (
        rf"[0-9.]+ GiB are free for {ready.folder}/srv, expected at least 1310721\.0 GiB, 1310720\.0 GiB for the next "
        r"backup \(the newest has 1048576\.0 GiB\) and 1\.0 GiB for binary logs \(14 days at .* a day, .* there\): "
        r"free some, give it a larger disk, or lower backup\.logical\.retention-days or binlog-expire-days"
    )
    assert re.fullmatch(expected, message), message


def test_binary_logs_are_those_that_the_server_knows(ready):
    began = times.now()
    ready.sql("FLUSH BINARY LOGS", "CREATE DATABASE x", "FLUSH BINARY LOGS")
    shown = ready.sql("SHOW BINARY LOGS")
    logs = status.binary_logs(ready.config)
    assert len(shown) >= 3
    assert logs.size == sum(size for _, size in shown)
    assert logs.since is not None
    assert began - timedelta(minutes=10) < logs.since <= times.now()
