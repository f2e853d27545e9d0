# SPDX-License-Identifier: GPL-2.0-or-later
"""A node of NEO from its JSON file alone, as its services run it: what is made once, what dies, and its logs."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervisor, times
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import ctl, logs, status, verdict
from slapos.recipe.erp5.neo.config import (
    ClusterConfig,
    Control,
    Monitor,
    Network,
    Node,
    NodeConfig,
    Software,
    Upstream,
)
from tests.service.neo_fixtures import CLIENT, SCRIPTS
from tests.service.servers import PATIENCE, ROOT, free_port, part, wait_for

SUPERVISE = ROOT / "slapos/recipe/erp5/supervise.py"


class Services:
    """The services of a node, the whole of a cluster `name`, each a supervisor with neo-start below it."""

    def __init__(self, folder: Path, name: str, upstream: Upstream | None = None) -> None:
        for path in ("etc", "srv", "var/run", "var/log"):
            (folder / path).mkdir(parents=True)
        scripts = [str(SCRIPTS / f"neo_{name}.py") for name in ("master", "ask", "tls")]
        master, admin, storage = free_port(), free_port(), free_port()
        self.config = NodeConfig(
            instance="a node",
            partition=str(folder),
            software=Software(part("neoppod"), *scripts),
            cluster=name,
            network=Network("127.0.0.1", master, admin, storage),
            masters=(f"127.0.0.1:{master}",),
            cluster_control="",
            master=True,
            storages=2,
            partitions=3,
            replicas=0,
            autostart=2,
            founding=True,
            upstream=upstream,
            control=Control("127.0.0.1", free_port()),
            tls=None,
            mysql=None,
        )
        self.path = folder / "etc/neo-node.json"
        shapes.save(self.path, self.config)
        self.processes: dict[str, subprocess.Popen] = {}

    def cluster(self) -> ClusterConfig:
        """What the cluster's partition would know of it."""
        config, address = self.config, self.config.network.ip
        storages = tuple(f"{address}:{config.network.storage_port + number}" for number in range(config.storages))
        admin = f"{address}:{config.network.admin_port}"
        return ClusterConfig(
            instance="a cluster",
            partition=config.partition,
            software=config.software,
            cluster=config.cluster,
            partitions=config.partitions,
            replicas=config.replicas,
            upstream=config.upstream,
            requested_upstream=config.upstream,
            nodes=(Node("neo-node-0", 2, True, True, config.masters[0], admin, storages),),
            masters=config.masters,
            admins=(admin,),
            differences=(),
            autostart=True,
            monitor=Monitor(60, ()),
            control=config.control,
            upstream_control_url="",
            tls=None,
        )

    def start(self, *names: str) -> None:
        """Start the supervisors of some processes, or of all."""
        for name in names or self.config.names:
            run = self.config.service(name).run
            words = [sys.executable, "-I", "-S", "-B", str(SUPERVISE), "--name", f"neo-{name}", "--run", str(run), "--"]
            words += [sys.executable, "-P", "-m", "slapos.recipe.erp5.neo.start", "--config", str(self.path)]
            with open(self.config.path("var/log", f"{name}.out"), "ab") as output:
                self.processes[name] = subprocess.Popen(
                    [*words, "--node", name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )

    def stop(self, *names: str) -> None:
        """End them, and all below them."""
        for name in names or list(self.processes):
            self.processes[name].terminate()
        for name in names or list(self.processes):
            self.processes.pop(name).wait(PATIENCE)

    def said(self, name: str) -> str:
        """What a process and its supervisor said."""
        return self.config.path("var/log", f"{name}.out").read_text()

    def pids(self) -> dict[str, int]:
        found = {name: supervisor.status(self.config.service(name)) for name in self.config.names}
        return {name: one.child_pid if one else 0 for name, one in found.items()}

    def judge(self) -> verdict.Verdict:
        """What the promise neo-cluster says."""
        return verdict.cluster(status.gather(self.cluster(), times.now()))

    def judge_node(self) -> verdict.Verdict:
        """What the promise neo-node says."""
        return verdict.node(status.node(configuration.load_node(self.path), times.now()))

    def wait(self) -> None:
        """Until the cluster is well."""
        try:
            wait_for(lambda: self.judge().good, f"{self.config.cluster} to be well")
        except AssertionError as error:
            words = "\n".join(self.said(name) for name in self.config.names)
            raise AssertionError(f"{error}: {self.judge()}, {self.judge_node()}\n{words}") from None

    def write(self, **things: str) -> None:
        """Objects in the root."""
        options = {"masters": self.config.masters[0], "cluster": self.config.cluster, "tls": [None] * 3}
        words = json.dumps({**options, "do": "write", "things": list(things.items())})
        command = [self.config.software.program("python"), str(CLIENT), words]
        assert subprocess.run(command, env={}, capture_output=True, timeout=PATIENCE).returncode == 0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A running one with data, which tests leave so."""
    services = Services(tmp_path_factory.mktemp("n") / "main", "main")
    services.start()
    try:
        services.wait()
        services.write(one="thing")
        yield services
    finally:
        services.stop()


def test_a_backup_of_it_is_one_from_its_first_moment_on(node: Services, partition: Path):
    copy = Services(partition / "copy", "copy", Upstream("main", node.config.masters[0]))
    copy.start()
    try:
        copy.wait()
        wait_for(lambda: not copy.config.new_flag.exists(), "the end of the first copy")
        assert copy.judge().sentences[0].endswith("; it is a backup of main, 0 s behind")
        assert "this new cluster becomes a backup of main" in copy.said("master")
        copy.stop()
        # What it follows is not the parameters' any more.
        shapes.save(copy.path, dataclasses.replace(copy.config, upstream=None))
        copy.start()
        copy.wait()
        assert copy.judge().sentences[0].endswith("; it is a backup of main, 0 s behind")
    finally:
        copy.stop()


def test_logs_are_put_aside_and_nothing_restarts(node: Services):
    before, folder = node.pids(), node.config.path("var/log")
    assert all(before.values())
    assert logs.rotate_all(node.config, 1) == 0
    for name in node.config.names:
        wait_for(node.config.log(name).exists, f"a new log of {name}")
    assert logs.rotate_all(node.config, 1 << 40) == 0
    for name in node.config.names:
        (aside,) = folder.glob(f"neo-{name}.log-*.gz")
        command = [node.config.software.program("neolog"), str(aside)]
        assert subprocess.run(command, env={}, capture_output=True, timeout=PATIENCE).returncode == 0
    assert node.pids() == before
    assert node.judge_node().sentences == ("neo-master, neo-admin, neo-storage-0 and neo-storage-1 run",)


def test_neoctl_asks_the_first_admin_that_can_be_reached(node: Services):
    free = f"127.0.0.1:{free_port()}"
    config = dataclasses.replace(node.cluster(), admins=(free, *node.cluster().admins))
    path = node.config.path("etc/neo.json")
    shapes.save(path, config)
    # A tweak without a node fails with NEO 1.12's own program.
    for words, answer in ((["print", "cluster"], "RUNNING\n"), (["tweak"], "No change done.\n")):
        command = [sys.executable, "-P", "-m", "slapos.recipe.erp5.neo.ctl", "--config", str(path), *words]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert (asked.returncode, asked.stdout) == (0, answer), asked.stderr
    with pytest.raises(ctl.Unreachable) as caught:
        ctl.first_reachable([free])
    assert str(caught.value) == (
        f"no admin of the cluster answers at {free} (Connection refused): start one, or look at the network"
    )


def test_a_killed_storage_comes_back_and_a_lost_one_is_not_made_again(node: Services):
    pid = node.pids()["storage-1"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: node.pids()["storage-1"] not in (0, pid), "a new start")
    node.wait()
    (said,) = node.judge_node().sentences
    assert said.startswith("the service neo-storage-1 was killed by SIGKILL at ")

    database = node.config.database("storage-1")
    node.stop("storage-1")
    database.rename(database.with_suffix(".away"))
    node.start("storage-1")
    wait_for(lambda: "error: " in node.said("storage-1"), "a refusal")
    assert f"error: {database} is not there, expected the database that was made once" in node.said("storage-1")
    assert node.judge_node().sentences[0].startswith(f"{database} is not there, expected")
    assert not database.exists()
    database.with_suffix(".away").rename(database)
    supervisor.start(node.config.service("storage-1"))
    node.wait()
