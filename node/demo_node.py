# SPDX-License-Identifier: GPL-2.0-or-later
"""The SlapOS node that bin/demo starts: its Master, its release, instances that are requested of it, and its end."""

import configparser
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import promises
import psutil
from slapos.slap.standalone import SlapOSNodeCommandError, StandaloneSlapOS

IPV4, IPV6 = "127.0.0.1", "::1"
PARTITIONS = 16
MASTER_PORTS = range(27100, 27200)  # outside the ephemeral range, and those of instances
PROMISE_DEADLINE = 120  # seconds for all promises to turn green after processing

Request = tuple[str, dict[str, Any]]
"""A software type and parameters."""


class StepFailed(Exception):
    """A step did not succeed: the message says which, why, and the log to read."""


def step(title: str, act: Callable[[], object]) -> None:
    """Run one step, showing its title and its seconds; StepFailed names the step."""
    print(f"{title:<62}", end="", flush=True)
    began = time.monotonic()
    try:
        act()
    except StepFailed as error:
        print(" FAILED", flush=True)
        raise StepFailed(f"Step '{title}' failed: {error}") from error
    print(f" {time.monotonic() - began:4.0f} s")


class Node:
    """The standalone SlapOS node in DIRECTORY/node; `requests` tells by name what an instance is requested with, anew
    each time, as it may be what another one publishes by now."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.base = directory / "node"
        self.release = str(directory / "src" / "software" / "erp5" / "software.cfg")
        self.slapos = str(directory / "env/bin/slapos")
        self.slap: StandaloneSlapOS | None = None
        self.requests: dict[str, Callable[[], Request]] = {}

    # -- steps

    def start(self) -> None:
        """Start the two supervisors and the Master where they do not run; format the partitions."""
        self.base.mkdir(exist_ok=True)
        end(self.orphans())
        if not self.is_supervised():
            # Left by a killed node; the number may be another process's by now.
            (self.base / "var/run/supervisord.pid").unlink(missing_ok=True)
        try:
            self.slap = StandaloneSlapOS(str(self.base), IPV4, self.master_port(), slapos_bin=self.slapos)
            with self.slap.system_supervisor_rpc as supervisor:
                state = supervisor.getProcessInfo("slapos-proxy")["statename"]
            if state != "RUNNING":
                raise StepFailed(f"this node's Master is {state}; read {self.base}/var/log/slapos-proxy.log")
            self.slap.format(PARTITIONS, IPV4, IPV6)
        except StepFailed:
            raise
        except Exception as error:
            raise StepFailed(f"{error}; read {self.base}/var/log/slapos-proxy.log and supervisord.log there") from error

    def build(self, update: bool) -> None:
        """Build the release where it is not complete; with `update`, in any case."""
        assert self.slap
        self.slap.supply(self.release)
        try:
            self.slap.waitForSoftware(install_all=update)
        except SlapOSNodeCommandError as error:
            raise StepFailed(command_failure(error, self.base / "var/log/slapos-node-software.log")) from error

    def restart_all(self) -> None:
        """Stop all services, which the next processing starts: the release keeps its path here, so nothing else tells
        them that their code has changed."""
        assert self.slap
        with self.slap.instance_supervisor_rpc as instances:
            instances.stopAllProcesses()

    def process(self, name: str, runs: int = 1) -> None:
        """Request and process an instance until what it publishes is there; each of its children takes some `runs`."""
        assert self.slap
        self.request(name)
        log = self.base / "var/log/slapos-node-instance.log"
        for left in reversed(range(runs)):
            # Partitions that are up to date too, once: services that were stopped with the node start again.
            self.slap._force_slapos_node_instance_all = left == runs - 1
            failure = self._run_once()
            if failure and left:
                continue
            if failure:
                # Another instance of this node may be at fault, which is no fault of ours.
                partitions = ",".join(path.name for path in self.partitions(name))
                command = [f"{self.base}/bin/slapos", "node", "instance", "--force", "--only-cp", partitions]
                if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                    raise StepFailed(command_failure(failure, log)) from failure
                print(f"\n(other instances of this node fail: read {log})", end="", flush=True)
            if self.published(name):
                return
        raise StepFailed(f"nothing was published; read {log}")

    def _run_once(self) -> SlapOSNodeCommandError | None:
        """`slapos node instance`, and how it failed: as long as an instance waits for its children, or a service is
        about to start, it does."""
        assert self.slap
        try:
            self.slap.waitForInstance(max_retry=1)
        except SlapOSNodeCommandError as error:
            return error
        return None

    def wait_for_promises(self, name: str) -> None:
        """Run the promises until each is green, PROMISE_DEADLINE seconds at most."""
        deadline = time.monotonic() + PROMISE_DEADLINE
        while True:
            results = self.promises(name)
            red = {title: message for title, (failed, message) in results.items() if failed}
            if results and not red:
                return
            if time.monotonic() > deadline:
                lines = "\n".join(f"  {title}: {message}" for title, message in red.items())
                raise StepFailed(f"not green after {PROMISE_DEADLINE} s:\n{lines}\nread {self.partition(name)}/var/log")
            time.sleep(1)

    def stop(self) -> None:
        """Stop the instances first, each with the time it needs, then the supervisors, then what outlived them."""
        if self.is_supervised():
            slap = StandaloneSlapOS(str(self.base), IPV4, self.master_port(), slapos_bin=self.slapos)
            with contextlib.suppress(OSError), slap.instance_supervisor_rpc as instances:
                instances.stopAllProcesses()
            slap.stop()
        end(self.processes_of_the_node())

    # -- what the steps use

    def is_supervised(self) -> bool:
        """Whether this node's own supervisor answers."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.base / "var/run/sv.sock")) == 0

    def master_port(self) -> int:
        """The Master's port, kept in node/master-port; another one when somebody took it while the node was down."""
        kept = self.base / "master-port"
        port = int(kept.read_text()) if kept.exists() else self._configured_port()
        if port is None or not (self.is_supervised() or is_free(port)):
            port = next(candidate for candidate in MASTER_PORTS if is_free(candidate))
            kept.write_text(str(port))
        return port

    def _configured_port(self) -> int | None:
        """That of a node which tests have started: a Master at another port would be waited for in vain."""
        configuration = configparser.ConfigParser(interpolation=None)
        configuration.read(self.base / "etc/slapos.cfg")
        return urlsplit(configuration.get("slapos", "master_url", fallback="")).port

    def orphans(self) -> list[psutil.Process]:
        """Services whose supervisor was killed: nobody else will ever stop them, and they hold ports and locks."""
        found = self.processes_of_the_node()
        if not self.is_supervised():
            return found
        return [process for process in found if process.ppid() == 1 and not is_supervisor(process)]

    def request(self, name: str) -> Any:
        """Request an instance; asking again with the same parameters changes nothing."""
        assert self.slap
        software_type, parameters = self.requests[name]()
        values = {"_": json.dumps(parameters)}
        return self.slap.request(self.release, name, software_type, partition_parameter_kw=values)

    def published(self, name: str) -> dict[str, Any]:
        """What an instance publishes, as a dictionary; empty before its first successful processing."""
        connection = self.request(name).getConnectionParameterDict()
        return json.loads(connection.get("_", "{}"))

    def partition(self, name: str) -> Path:
        return self.base / "inst" / self.request(name).getId()

    def partitions(self, name: str) -> list[Path]:
        """Its own, and those of all that it has requested."""
        assert self.slap
        known = [one for one in self.slap.computer.getComputerPartitionList() if one.getState() != "destroyed"]
        children = [one.getId() for one in known if one.getInstanceParameterDict().get("root_instance_title") == name]
        own = self.partition(name)
        return [own, *(self.base / "inst" / child for child in children if child != own.name)]

    def title(self, partition: Path) -> str:
        """What the instance in a partition is called."""
        assert self.slap
        known = {one.getId(): one for one in self.slap.computer.getComputerPartitionList()}
        return str(known[partition.name].getInstanceParameterDict()["instance_title"])

    def promises(self, name: str) -> dict[str, tuple[bool, str]]:
        """Each promise of its partitions, evaluated now: title -> (failed, message); children's follow their names."""
        assert self.slap
        own, *children = self.partitions(name)
        found = promises.evaluate(own, self.slap._master_url)
        for child in children:
            results = promises.evaluate(child, self.slap._master_url)
            found |= {f"{self.title(child)}/{title}": result for title, result in results.items()}
        return found

    def describe(self, *names: str) -> None:
        """Print what each of these instances publishes, and its promises."""
        for name in names:
            print(f"\nPublished by {name}:")
            for key, value in sorted(self.published(name).items()):
                for item in value if isinstance(value, list) else [value]:
                    print(f"  {key:<26} {item}")
            print(f"Promises of {name}:")
            for title, (failed, message) in self.promises(name).items():
                print(f"  {'RED  ' if failed else 'green'} {title}: {message}")

    def processes_of_the_node(self) -> list[psutil.Process]:
        """Processes of this account that run something below the directory, ourselves and our ancestors left out."""
        ours = {os.getpid()} | {parent.pid for parent in psutil.Process().parents()}
        found = []
        for process in psutil.process_iter(["uids", "cmdline", "exe"]):
            words = [process.info["exe"] or "", *(process.info["cmdline"] or [])]
            same_account = process.info["uids"] and process.info["uids"].real == os.getuid()
            if same_account and process.pid not in ours and any(str(self.base) + "/" in word for word in words):
                found.append(process)
        return found


def command_failure(error: SlapOSNodeCommandError, log: Path) -> str:
    """The last lines of a slapos command, and the log that has them all."""
    output = str(error.args[0]["output"]).splitlines()[-15:]
    return "\n    " + "\n    ".join(output) + f"\n  read {log}"


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of IPV4."""
    with socket.socket() as probe:
        try:
            probe.bind((IPV4, port))
        except OSError:
            return False
    return True


def is_supervisor(process: psutil.Process) -> bool:
    """Whether it is one of the node's two supervisors."""
    return any("supervisord" in word for word in process.cmdline())


def end(processes: list[psutil.Process]) -> None:
    """SIGTERM, and SIGKILL for what is still there a minute later."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=60)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _, alive = psutil.wait_procs(alive, timeout=10)
    if alive:
        raise StepFailed(
            f"these processes do not end: {', '.join(f'{process.pid} {process.name()}' for process in alive)}"
        )
