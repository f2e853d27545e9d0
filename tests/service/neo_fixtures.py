# SPDX-License-Identifier: GPL-2.0-or-later
"""Clusters of NEO in temporary folders: each a number of processes that a test starts, kills and starts again."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.neo.ask import Asker, Status
from tests.service.servers import PATIENCE, ROOT, free_port, release, wait_for

SCRIPTS = ROOT / "slapos/recipe/erp5/py2"
CLIENT = ROOT / "tests/service/neo_client.py"


class Cluster:
    """A cluster `name` of nodes called master-0, storage-0, admin-0 and so on, in `folder`; each start is the same.

    With an upstream it is a new backup of that: its masters have files that say so.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        masters: int = 1,
        storages: int = 1,
        admins: int = 1,
        partitions: int = 4,
        replicas: int = 0,
        upstream: "Cluster | None" = None,
        tls: Sequence[Path] = (),
        host: str = "127.0.0.1",
        databases: Sequence[str] = (),
    ) -> None:
        self.folder, self.name, self.upstream, self.tls = folder / name, name, upstream, tls
        self.folder.mkdir()
        self.replicas, self.partitions, self.autostart = replicas, partitions, storages
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        counts = {"master": masters, "admin": admins, "storage": storages}
        names = [f"{kind}-{number}" for kind, count in counts.items() for number in range(count)]
        shown = f"[{host}]" if ":" in host else host
        self.addresses = {node: f"{shown}:{free_port(host)}" for node in names}
        self.databases = dict(zip(self.nodes("storage"), databases, strict=False))
        if upstream:
            for node in self.nodes("master"):
                self.flag(node).write_text("{}")

    def nodes(self, kind: str) -> list[str]:
        return [node for node in self.addresses if node.startswith(kind)]

    def of(self, kind: str) -> list[str]:
        """The addresses of all nodes of a kind."""
        return [self.addresses[node] for node in self.nodes(kind)]

    @property
    def masters(self) -> str:
        return " ".join(self.of("master"))

    def flag(self, master: str = "master-0") -> Path:
        """The file that says that a master's first copy is not complete."""
        return self.folder / f"{master}.new"

    # ---- its processes

    def command(self, node: str) -> list[str]:
        programs = release() / "parts/neoppod/bin"
        kind = node.split("-")[0]
        words = [
            "-c",
            self.name,
            "-m",
            self.masters,
            "-b",
            self.addresses[node],
            "-l",
            str(self.folder / f"{node}.log"),
        ]
        words += self.tls_words()
        if kind == "master":
            words += ["-p", str(self.partitions), "-r", str(self.replicas), "-A", str(self.autostart)]
            if self.upstream:
                words += ["-C", self.upstream.name, "-M", self.upstream.masters]
            script = [str(programs / "python"), str(SCRIPTS / "neo_master.py")]
            return [*script, "--new-flag", str(self.flag(node)), "--", *words]
        if kind == "storage":
            words += self.storage_words(node)
        return [str(programs / f"neo{kind}"), *words]

    def storage_words(self, node: str) -> list[str]:
        """SQLite, or the database of a MySQL server: with a password, which has to be in a file."""
        if node not in self.databases:
            return ["-a", "SQLite", "-d", f"{self.folder}/{node}.sqlite"]
        file = self.folder / f"{node}.cfg"
        file.write_text("[storage]\ndatabase = " + self.databases[node].replace("%", "%%") + "\n")
        return ["-a", "MySQL", "-f", str(file), "-w", "-1"]

    def tls_words(self) -> list[str]:
        return [word for pair in zip(("--ca", "--cert", "--key"), map(str, self.tls), strict=False) for word in pair]

    def start(self, *nodes: str) -> None:
        """Start nodes, or all that do not run."""
        for node in nodes or self.addresses:
            if not self.runs(node):
                with (self.folder / f"{node}.out").open("ab") as output:
                    self.processes[node] = subprocess.Popen(
                        self.command(node), env={}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                    )

    def runs(self, node: str) -> bool:
        return node in self.processes and self.processes[node].poll() is None

    def kill(self, *nodes: str, how: int = signal.SIGKILL) -> None:
        """End nodes, or all that run, at once, and wait for their ends."""
        running = [node for node in nodes or self.addresses if self.runs(node)]
        for node in running:
            self.processes[node].send_signal(how)
        for node in running:
            self.processes[node].wait(PATIENCE)

    def check(self) -> None:
        """Nothing has ended that the test has not."""
        ended = [node for node, process in self.processes.items() if process.returncode is None and process.poll()]
        assert not ended, f"{ended} ended: {self.log(ended[0])[-3000:]}"

    def revive(self) -> None:
        """Start what has ended, as a supervisor does."""
        self.start()

    def log(self, node: str) -> str:
        """What a node said on its standard error, and what is in its log."""
        output = (self.folder / f"{node}.out").read_text(errors="replace")
        command = [release() / "parts/neoppod/bin/neolog", self.folder / f"{node}.log"]
        return output + subprocess.run(command, env={}, capture_output=True, text=True, timeout=PATIENCE).stdout

    # ---- what it is asked

    def asker(self, **options: Any) -> Asker:
        python = release() / "parts/neoppod/bin/python"
        return Asker(python, SCRIPTS / "neo_ask.py", self.name, self.of("admin"), tls=self.tls, **options)

    def status(self) -> Status:
        with self.asker() as asker:
            return asker.status()

    def wait(self, state: str, *, reviving: bool = False) -> None:
        """Until the cluster is in a state; `reviving` what ends meanwhile."""
        found: list[Status] = []
        with self.asker() as asker:

            def reached() -> bool:
                self.revive() if reviving else self.check()
                found[:] = [asker.status()]
                return found[0].cluster_state == state

            try:
                wait_for(reached, f"{self.name} to be {state}")
            except AssertionError as error:
                logs = "\n".join(f"-- {node}\n{self.log(node)[-3000:]}" for node in self.addresses)
                raise AssertionError(f"{error}, and it is {found}\n{logs}") from error

    def wait_for_tid(self, tid: int) -> None:
        """Until a backup has all up to `tid`, and its first copy is complete."""
        with self.asker() as asker:

            def reached() -> bool:
                status = asker.status()
                return (status.backup_tid or 0) >= tid and status.first_copy_goal is None

            wait_for(reached, f"{self.name} to have the transaction {tid:#x}")

    def client(self, do: str, **options: object) -> list[str]:
        """The command of a client of ours."""
        tls = [str(path) for path in self.tls] or [None] * 3
        text = json.dumps({"do": do, "masters": self.masters, "cluster": self.name, "tls": tls, **options})
        return [str(release() / "parts/neoppod/bin/python"), str(CLIENT), text]

    def ask_client(self, do: str, **options: object) -> Any:
        """What a client of ours prints, which has to succeed."""
        command = self.client(do, **options)
        result = subprocess.run(command, env={}, capture_output=True, text=True, timeout=PATIENCE)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def write(self, **things: object) -> list[int]:
        """Objects in the root, a transaction each; returns the tids."""
        return self.ask_client("write", things=list(things.items()))

    def read(self) -> dict[str, Any]:
        return self.ask_client("read")

    @contextlib.contextmanager
    def hostile_clients(self, count: int = 2) -> Iterator["Attempts"]:
        """Clients that try to write all along."""
        files = [self.folder / f"attack-{number}" for number in range(count)]
        attackers = []
        try:
            for path in files:
                with path.open("wb") as output:
                    attackers.append(subprocess.Popen(self.client("attack"), env={}, stdout=output, stderr=output))
            yield Attempts(files)
            assert [one.poll() for one in attackers] == [None] * count, files[0].read_text()[-2000:]
        finally:
            for one in attackers:
                one.kill()
                one.wait()

    @contextlib.contextmanager
    def reader(self) -> Iterator[subprocess.Popen[str]]:
        """A client that has read, and stays connected."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(self.client("stay"), env={}, **pipes) as process:
            try:
                assert process.stdout and process.stdout.readline()
                yield process
            finally:
                process.kill()


class Attempts:
    """What hostile clients met with."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def all(self) -> list[str]:
        lines = [line for path in self.files for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith('"') and line.endswith('"')]

    def written(self) -> int:
        return self.all().count("written")


class Clusters:
    """Makes clusters, and ends all of their processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Cluster] = []

    def __call__(self, name: str, **options: Any) -> Cluster:
        self.made.append(Cluster(self.folder, name, **options))
        return self.made[-1]

    def backup(self, name: str = "copy", **options: Any) -> tuple[Cluster, Cluster]:
        """A running upstream that has `before`, and a new backup of it that is not started."""
        upstream = self("main", **{key: options[key] for key in ("partitions", "tls", "host") if key in options})
        upstream.start()
        upstream.wait("RUNNING")
        upstream.write(before="kept")
        return upstream, self(name, upstream=upstream, **options)

    def end(self) -> None:
        for cluster in self.made:
            cluster.kill()


def follow(clusters: Clusters, **options: Any) -> tuple[Cluster, Cluster]:
    """(upstream, its backup that has all of it), both running."""
    upstream, copy = clusters.backup(**options)
    copy.start()
    copy.wait("BACKINGUP")
    copy.wait_for_tid(upstream.status().last_tid or 0)
    return upstream, copy


def random_moment(limit: float) -> float:
    """Seconds, evenly spread, for a kill in the middle of something."""
    return int.from_bytes(os.urandom(4), "big") / 2**32 * limit
