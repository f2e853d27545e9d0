# SPDX-License-Identifier: GPL-2.0-or-later
"""What bin/demo does once its environment stands: a SlapOS node, the release, a primary and its replica."""

import argparse
import contextlib
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import promises
import psutil
from slapos.slap.standalone import SlapOSNodeCommandError, StandaloneSlapOS

IPV4, IPV6 = "127.0.0.1", "::1"
PARTITIONS = 8
MASTER_PORTS = range(26000, 26100)  # outside the ephemeral range
PRIMARY, REPLICA = "mariadb-primary", "mariadb-replica"
BUSY = 75  # mariadb-dump-script: another backup is running
PROMISE_DEADLINE = 120  # seconds for all promises to turn green after processing
WRITE = """
CREATE DATABASE IF NOT EXISTS demo;
CREATE TABLE IF NOT EXISTS demo.greeting (number INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(80), at DATETIME(3));
INSERT INTO demo.greeting (text, at) VALUES (CONCAT('written on server ', @@server_id), NOW(3));
"""
READ = "SELECT * FROM demo.greeting ORDER BY number DESC LIMIT 1"


class StepFailed(Exception):
    """A step did not succeed: the message says which, why, and the log to read."""


def main() -> int:
    """Run, stop or destroy the node below `--directory`; the exit status is 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("action", choices=["run", "stop", "destroy"])
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    node = Node(arguments.directory)
    try:
        if arguments.action == "run":
            run(node, arguments.update)
        else:
            step("Stop the node and its services", node.stop)
    except StepFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def run(node: "Node", update: bool) -> None:
    """Bring the node, the release and the instances up, show that they replicate, and print what comes next."""
    step("SlapOS node with its embedded Master", node.start)
    step("Software release", lambda: node.build(update))
    step(f"Instance {PRIMARY}", lambda: node.process(PRIMARY, update))
    step(f"Promises of {PRIMARY}", lambda: node.wait_for_promises(PRIMARY))
    step("A first backup", node.wait_for_backup)
    step(f"Instance {REPLICA}", lambda: node.process(REPLICA, False))
    step(f"Promises of {REPLICA}", lambda: node.wait_for_promises(REPLICA))
    step("A row written on the one, read on the other", node.replicate)
    node.describe()


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
    """The standalone SlapOS node in DIRECTORY/node, and the two instances that the demo requests."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.base = directory / "node"
        self.release = str(directory / "src" / "software" / "erp5" / "software.cfg")
        self.slapos = str(directory / "env/bin/slapos")
        self.slap: StandaloneSlapOS | None = None
        self.row = ""

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
            # Process partitions that are up to date too: services that were stopped with the node start again.
            self.slap._force_slapos_node_instance_all = True
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

    def process(self, name: str, update: bool) -> None:
        """Request and process an instance until what it publishes is there; with `update`, restart all services."""
        assert self.slap
        if update:
            # The release keeps its path here, so nothing tells services that their code has changed.
            with self.slap.instance_supervisor_rpc as instances:
                instances.stopAllProcesses()
        self.request(name)
        log = self.base / "var/log/slapos-node-instance.log"
        try:
            self.slap.waitForInstance(max_retry=1)
        except SlapOSNodeCommandError as error:
            # Another instance of this node may be at fault, which is no fault of ours.
            command = [f"{self.base}/bin/slapos", "node", "instance", "--force", "--only-cp", self.partition(name).name]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                raise StepFailed(command_failure(error, log)) from error
            print(f"\n(other instances of this node fail: read {log})", end="", flush=True)
        if not self.published(name):
            raise StepFailed(f"nothing was published; read {log}")

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

    def wait_for_backup(self) -> None:
        """Make a backup where there is none, and wait until one is offered; the scheduler may be making it already."""
        program = str(self.partition(PRIMARY) / "bin" / "mariadb-dump-script")
        deadline = time.monotonic() + PROMISE_DEADLINE
        while not self.newest_backup():
            made = subprocess.run([program], capture_output=True, text=True, check=False)
            if made.returncode not in (0, BUSY) or time.monotonic() > deadline:
                raise StepFailed(f"{program} ended with status {made.returncode}: {made.stderr.strip()}")
            time.sleep(1 if made.returncode == BUSY else 0)

    def replicate(self) -> None:
        """Write a row on the primary and read it on the replica, PROMISE_DEADLINE seconds later at most."""
        self.sql(PRIMARY, WRITE)
        self.row = self.sql(PRIMARY, READ)
        deadline = time.monotonic() + PROMISE_DEADLINE
        while self.sql(REPLICA, READ, check=False) != self.row:
            if time.monotonic() > deadline:
                raise StepFailed(f"the row did not arrive: {self.promises(REPLICA)['mariadb-replication'][1]}")
            time.sleep(0.2)

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
        port = int(kept.read_text()) if kept.exists() else None
        if port is None or not (self.is_supervised() or is_free(port)):
            port = next(candidate for candidate in MASTER_PORTS if is_free(candidate))
            kept.write_text(str(port))
        return port

    def orphans(self) -> list[psutil.Process]:
        """Services whose supervisor was killed: nobody else will ever stop them, and they hold ports and locks."""
        found = self.processes_of_the_node()
        if not self.is_supervised():
            return found
        return [process for process in found if process.ppid() == 1 and not is_supervisor(process)]

    def request(self, name: str):
        """Request an instance; asking again with the same parameters changes nothing."""
        assert self.slap
        parameters: dict[str, object] = {}
        if name == REPLICA:
            # All that a replica needs is what its primary publishes.
            published = self.published(PRIMARY)
            parameters["replication"] = {
                "primary-url": published["replication-primary-url"],
                "bootstrap-url": published["replication-bootstrap-url"],
                # Two seconds of lag while the demo's machine is busy are nothing to be alarmed about.
                "seconds-behind-master-threshold": 10,
            }
        return self.slap.request(self.release, name, "mariadb", partition_parameter_kw={"_": json.dumps(parameters)})

    def published(self, name: str) -> dict:
        """What an instance publishes, as a dictionary; empty before its first successful processing."""
        connection = self.request(name).getConnectionParameterDict()
        return json.loads(connection.get("_", "{}"))

    def partition(self, name: str) -> Path:
        return self.base / "inst" / self.request(name).getId()

    def promises(self, name: str) -> dict[str, tuple[bool, str]]:
        """Each promise, evaluated now: title -> (failed, message)."""
        assert self.slap
        return promises.evaluate(self.partition(name), self.slap._master_url)

    def sql(self, name: str, statements: str, check: bool = True) -> str:
        """Execute statements as the administrator; the values of the last row, or nothing when that failed."""
        client = [str(self.partition(name) / "bin/mariadb"), "--batch", "--skip-column-names"]
        done = subprocess.run(client, input=statements, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise StepFailed(f"{client[0]} ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def newest_backup(self) -> str:
        """The name of the newest backup that the primary offers, empty while there is none."""
        url, files = self.published(PRIMARY)["replication-bootstrap-url"], self.partition(PRIMARY) / "srv/tls"
        context = ssl.create_default_context(cafile=files / "ca.pem")
        context.load_cert_chain(files / "client.pem")
        with urllib.request.urlopen(url, context=context) as response:
            backups = json.load(response)["backups"]
        return backups[-1]["name"] if backups else ""

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

    def describe(self) -> None:
        """Print what is published, each promise, the row that travelled, and what to type next."""
        for name in (PRIMARY, REPLICA):
            print(f"\nPublished by {name}:")
            for key, value in sorted(self.published(name).items()):
                for item in value if isinstance(value, list) else [value]:
                    print(f"  {key:<26} {item}")
            print(f"Promises of {name}:")
            for title, (failed, message) in self.promises(name).items():
                print(f"  {'RED  ' if failed else 'green'} {title}: {message}")
        print(f"\nWritten on {PRIMARY}, read on {REPLICA}: {self.row}")
        published, partition, replica = self.published(PRIMARY), self.partition(PRIMARY), self.partition(REPLICA)
        url = urlsplit(published["database-list"][0])
        software = (partition / "software_release").resolve()
        backups = published["replication-bootstrap-url"]
        curl = f"curl --fail --cert {partition}/srv/tls/client.pem --cacert {partition}/srv/tls/ca.pem"
        print(f"""
What to type next, as {pwd.getpwuid(os.getuid()).pw_name}:
  {partition}/bin/mariadb
  {replica}/bin/mariadb
      an administrator's client, of the primary and of the replica; as the database's own user, with the password of
      the primary's URL above:
  {software}/parts/mariadb/bin/mariadb --no-defaults --host {url.hostname} --port {url.port} \\
      --user {url.username} --password {url.path[1:]}
  {partition}/bin/mariadb-dump-script
      a backup, now
  {curl} {backups}
      the list of backups; the newest one itself (what to do with it: README.md, Restoring a backup):
  {curl} --remote-name {backups}{self.newest_backup()}
  {self.base}/bin/slapos service list
      what is requested; `node instance` processes it again, `--help` tells more
  bin/demo --dir {self.directory} --stop
      stop all of it (not as that account, but as you did just now); --destroy removes it
""")


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


if __name__ == "__main__":
    # The standalone node looks up supervisord and buildout by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert shutil.which("supervisord"), "supervisord is not beside this Python"
    sys.exit(main())
