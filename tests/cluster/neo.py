# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of NEO share: clusters with the partitions of their nodes, and objects written by ZODB."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node import promises
from slapos.recipe.erp5 import supervisor
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import status
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import ClusterConfig, NodeConfig
from tests.cluster.node import ROOT, Instance, Node, eventually

CLIENT = ROOT / "tests/service/neo_client.py"
RUNS = 6
"""Runs of `slapos node instance` after which a cluster has to be complete: nodes are requested, publish, are told, and
start, and each run sees what the one before has left."""


class Cluster(Instance):
    """A requested NEO cluster: `path` is its own partition; its name is that of the cluster too."""

    software_type = "neo"

    def request(self, parameters: dict[str, Any] | None = None, state: str = "started") -> None:
        named = None if parameters is None else {"cluster": self.name, **parameters}
        super().request(named, state)

    @property
    def config(self) -> ClusterConfig:
        return configuration.load_cluster(self.path / "etc/neo.json")

    def partitions(self) -> list[Path]:
        """Those of its nodes, in their order."""
        found = []
        for partition in self.node.slap.computer.getComputerPartitionList():
            known = partition.getInstanceParameterDict()
            is_node = known.get("slap_software_type") == "neo-node"
            if is_node and json.loads(known["_"])["cluster"] == self.name:
                found.append(self.node.instances / partition.getId())
        return sorted(found, key=lambda path: int(path.name.strip("abcdefghijklmnopqrstuvwxyz")))

    def nodes(self) -> list[NodeConfig]:
        return [configuration.load_node(path / "etc/neo-node.json") for path in self.partitions()]

    def all(self) -> list[str]:
        """The names of all its partitions."""
        return [self.path.name, *(path.name for path in self.partitions())]

    def process(self, *options: str) -> str:
        """Process all its partitions once, which has to succeed; the output."""
        return self.node.process("--only-cp", ",".join(self.all()), *options)

    def is_complete(self) -> bool:
        """Whether all its nodes have published their addresses, and know the masters."""
        with contextlib.suppress(ConfigurationError):
            config = self.config
            published = bool(config.masters) and all(node.published for node in config.nodes)
            return published and all(node.masters == config.masters for node in self.nodes())
        return False

    def asker(self) -> Asker:
        return status.asker(self.config)

    def status(self) -> Status:
        with self.asker() as asker:
            return asker.status()

    def wait(self, state: str) -> Status:
        """Until it is in a state."""
        return eventually(lambda: (lambda now: now if now.cluster_state == state else None)(self.status()), state)

    def take_over(self) -> None:
        """Have a backup become what people write to."""
        with self.asker() as asker:
            asker.set_state("STOPPING_BACKUP")
        self.wait("RUNNING")

    def client(self, do: str, **options: object) -> Any:
        """What a client of ours prints, which has to succeed."""
        masters = " ".join(self.config.masters)  # as it publishes them; also while there is no Master to ask
        words = {"masters": masters, "cluster": self.name, "tls": [None] * 3, "do": do, **options}
        python = self.config.software.program("python")
        # What Python 2.7 says on its standard error when it ends with threads is no failure.
        finished = subprocess.run([python, str(CLIENT), json.dumps(words)], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    def write(self, **things: object) -> list[int]:
        """Objects in the root, a transaction each; their tids."""
        return self.client("write", things=list(things.items()))

    def read(self) -> dict[str, Any]:
        """All objects in the root."""
        return self.client("read")

    def pids(self) -> dict[str, int]:
        """The processes of all nodes, such as p3/storage-0 or p3/mariadb, 0 for one that does not run."""
        found = {}
        for node in self.nodes():
            for name in node.services:
                supervised = supervisor.status(node.service(name))
                found[f"{Path(node.partition).name}/{name}"] = supervised.child_pid if supervised else 0
        return found

    def kill(self, *names: str) -> None:
        """Kill processes at once, and wait until their supervisors have started them again."""
        pids = self.pids()
        for name in names:
            os.kill(pids[name], signal.SIGKILL)
        eventually(lambda: all(self.pids()[name] not in (0, pids[name]) for name in names), f"{names} are back")

    def forget_deaths(self) -> None:
        """Scenarios that come later want green nodes, and not in a quarter of an hour."""
        for node in self.nodes():
            group = f"{node.path().name}:*"
            assert self.node.slapos("supervisorctl", "stop", group).returncode == 0
            for name in node.services:
                node.service(name).state.unlink()
            assert self.node.slapos("supervisorctl", "start", group).returncode == 0

    def wait_until_copied(self, tid: int) -> None:
        """Until it, a backup, has a transaction of its upstream."""

        def has() -> bool:
            now = self.status()
            return (now.backup_tid or 0) >= tid and now.first_copy_goal is None

        eventually(has, f"{self.name} has the transaction {tid:#x}")

    def promises(self) -> dict[str, tuple[bool, str]]:
        """Those of all its partitions: neo-cluster, and for each node such as p3/neo-node."""
        found = super().promises()
        for path in self.partitions():
            for title, result in promises.evaluate(path, self.node.slap._master_url).items():
                found[f"{path.name}/{title}"] = result
        return found

    def promise(self) -> tuple[bool, str]:
        """Whether neo-cluster has failed, and what it says, now."""
        return super().promises()["neo-cluster"]


def deploy(node: Node, name: str, **parameters: Any) -> Cluster:
    """Request a cluster, and process it until it is complete; nothing is started before."""
    cluster = Cluster(node, name)
    cluster.request({key.replace("_", "-"): value for key, value in parameters.items()})
    process_until_complete(cluster)
    return cluster


def process_until_complete(cluster: Any, runs: int = RUNS) -> None:
    """Run `slapos node instance` as often as it takes, which fails as long as nodes, or others that were requested,
    have not published."""
    for _ in range(runs):
        output = cluster.node.slapos("instance", "--only-cp", ",".join(cluster.all())).stdout
        if cluster.is_complete() and cluster.published:
            return
    raise AssertionError(f"{cluster.name} is not complete after {runs} runs: {output[-6000:]}")


@contextlib.contextmanager
def destroyed_at_the_end(node: Node, *names: str) -> Iterator[None]:
    """For fixtures: clusters of these names are destroyed afterwards, and their partitions free again."""
    try:
        yield
    finally:
        clusters = [Cluster(node, name) for name in names if name in requested(node)]
        for cluster in clusters:
            cluster.request({}, "destroyed")
        # The nodes of a destroyed cluster are destroyed by the next report, and it is by the one after that.
        for _ in range(4):
            assert node.slapos("report").returncode == 0
            if not requested(node) & set(names):
                break
        assert not requested(node) & set(names)


def requested(node: Node) -> set[str]:
    """The names of the clusters of which there is any partition."""
    dictionaries = [one.getInstanceParameterDict() for one in node.slap.computer.getComputerPartitionList()]
    ours = [one for one in dictionaries if one.get("slap_software_type") in ("neo", "neo-node")]
    return {json.loads(one["_"]).get("cluster", "") for one in ours}
