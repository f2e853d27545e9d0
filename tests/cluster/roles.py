# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of role changes share: a pair, an application that writes, a dead machine, a Master that is down."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pymysql

from tests.cluster.node import Instance, Node, connect, eventually, tail
from tests.cluster.replicas import APPLICATION, replica

TABLE = "erp5.numbered"


@contextlib.contextmanager
def pair(node: Node, name: str, **replication: Any) -> Iterator[tuple[Instance, Instance]]:
    """A green primary and its replica, which knows the primary's takeover-url; both are destroyed at the end."""
    primary = node.instance(f"{name}-first")
    primary.request({"database-list": [APPLICATION]})
    node.process_only(primary)
    try:
        primary.wait_until_green()
        more = {"database-list": [APPLICATION]}
        control_url = primary.published["takeover-url"]
        with replica(node, f"{name}-second", primary, more=more, control_url=control_url, **replication) as copy:
            # A new instance is green while its own authority begins, and can be followed once that has.
            eventually((copy.path / "srv/tls/authority.json").exists, f"the authority of {copy.name}")
            yield primary, copy
    finally:
        node.destroy(primary)


class Application:
    """Writes numbered rows to whichever instance takes them, while it is entered, and notes what was acknowledged."""

    def __init__(self, *instances: Instance) -> None:
        self.urls = [instance.published["database-list"][0] for instance in instances]
        self.names = [instance.name for instance in instances]
        self.acknowledged: dict[int, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        instances[0].sql(f"CREATE TABLE IF NOT EXISTS {TABLE} (number INT PRIMARY KEY)")

    def _write(self) -> None:
        order, connection = itertools.cycle(zip(self.urls, self.names, strict=True)), None
        for number in itertools.count(1):
            if self._stop.is_set():
                break
            try:
                if connection is None:
                    url, name = next(order)
                    connection = connect(url, ssl_disabled=True, connect_timeout=5)
                connection.cursor().execute(f"INSERT INTO {TABLE} VALUES ({number})")
                self.acknowledged[number] = name
            except (pymysql.MySQLError, OSError):
                if connection is not None:
                    connection._force_close()
                connection = None
                self._stop.wait(0.01)

    def wait_for_rows(self, instance: Instance, count: int = 200) -> None:
        """Until so many more have been written on an instance."""
        before = self._count(instance)
        eventually(lambda: self._count(instance) >= before + count, f"{count} rows written on {instance.name}")

    def _count(self, instance: Instance) -> int:
        return sum(1 for name in list(self.acknowledged.values()) if name == instance.name)

    def missing(self, instance: Instance) -> set[int]:
        """What was acknowledged, and is not on an instance."""
        return set(self.acknowledged) - {number for (number,) in instance.sql(f"SELECT number FROM {TABLE}")}

    def __enter__(self) -> "Application":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def kill(instance: Instance) -> None:
    """SIGKILL to all processes of an instance, of which none notices another's end, as when its machine is gone."""
    processes = instance.processes()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        # The supervisor last: its own end would ask the server to stop.
        for process in sorted(processes, key=lambda one: one.name() != "mariadbd"):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, number)
    eventually(lambda: not instance.processes(), f"no process of {instance.name} is left")


@contextlib.contextmanager
def master_stopped(node: Node) -> Iterator[None]:
    """The SlapOS Master is down."""
    with node.slap.system_supervisor_rpc as supervisor:
        supervisor.stopProcess("slapos-proxy")
    assert not node.slap._isSlapOSAvailable()
    try:
        yield
    finally:
        with node.slap.system_supervisor_rpc as supervisor:
            supervisor.startProcess("slapos-proxy")
        eventually(node.slap._isSlapOSAvailable, "the Master is back")


def act(instance: Instance, action: str, *arguments: str) -> str:
    """Run bin/mariadb-ACTION, which has to succeed; its output."""
    done = instance.program(f"mariadb-{action}", *arguments)
    assert done.returncode == 0, f"{action} of {instance.name}: {done.stdout}"
    return done.stdout


def refused(instance: Instance, action: str, *arguments: str) -> str:
    """Run bin/mariadb-ACTION, which has to be refused; its last line."""
    done = instance.program(f"mariadb-{action}", *arguments)
    assert done.returncode == 1, f"{action} of {instance.name}: {done.stdout}"
    return done.stdout.splitlines()[-1]


def url_file(folder: Path, instance: Instance, name: str) -> str:
    """A file with one of the URLs that an instance publishes, as people give a secret to a program."""
    path = folder / f"{instance.name}-{name}"
    path.touch(mode=0o600)
    path.write_text(instance.published[name] + "\n")
    return str(path)


def role(instance: Instance) -> str:
    """What the database really is."""
    ((read_only,),) = instance.sql("SELECT @@read_only")
    if instance.slave_status():
        return "replica" if read_only else "writable replica"
    return "fenced" if read_only else "primary"


def rejoin(old: Instance, new: Instance, folder: Path) -> None:
    """Let an old primary come back, made anew if it has transactions that were not received before it died."""
    names = {"primary-url": "replication-primary-url", "bootstrap-url": "replication-bootstrap-url"}
    files = [word for key, name in names.items() for word in (f"--{key}-file", url_file(folder, new, name))]
    act(old, "rejoin", "--rebuild", *files)


def wait_until_fenced(old: Instance, new: Instance) -> None:
    """Until an old primary that is back is fenced by the new one, which tries that once a minute at least."""
    try:
        wait_for_role(old, "fenced")
    except AssertionError as error:
        raise AssertionError(f"{error}: {old.promises()}\n{tail(old.path)}\n{tail(new.path)}") from None


def wait_for_role(instance: Instance, expected: str) -> None:
    def reached() -> bool:
        with contextlib.suppress(pymysql.MySQLError):
            return role(instance) == expected
        return False

    eventually(reached, f"{instance.name} is a {expected}")


def said(instance: Instance) -> str:
    """What the promise mariadb-replication complains of now."""
    failed, message = instance.promises()["mariadb-replication"]
    assert failed, message
    return message


def follow_the_promise(node: Node, primary: Instance, replicas: Sequence[Instance]) -> None:
    """Change the parameters to what the roles are now, which restarts no server, and makes all green."""
    instances = (primary, *replicas)
    pids = [instance.pid() for instance in instances]
    primary.request({key: value for key, value in primary.parameters.items() if key != "replication"})
    for copy in replicas:
        copy.request(copy.parameters | copy.replica_of(primary, control_url=primary.published["takeover-url"]))
    node.process_only(*instances)
    for instance in instances:
        instance.wait_until_green()
    assert [instance.pid() for instance in instances] == pids
    for copy in replicas:
        copy.wait_for_row_of(primary)
