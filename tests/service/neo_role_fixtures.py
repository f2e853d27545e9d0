# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO clusters as SlapOS runs them, without SlapOS: a partition for the cluster, one for each node, and their services.

The processes of a node are under our supervisor; nginx and the control process are in each partition.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervisor, times
from slapos.recipe.erp5.neo import node_actions, node_role, role_state, status, verdict
from slapos.recipe.erp5.neo import tid as tids
from slapos.recipe.erp5.neo.ask import Asker, Status
from slapos.recipe.erp5.neo.config import (
    MARIADB,
    ClusterConfig,
    Control,
    Monitor,
    MySQL,
    Network,
    Node,
    NodeConfig,
    Software,
    Upstream,
)
from slapos.recipe.erp5.neo.role_state import RoleState
from slapos.recipe.erp5.tls import files
from tests.service import servers
from tests.service.acting import Acting
from tests.service.neo_fixtures import SCRIPTS, Cluster
from tests.service.servers import ROOT, free_port, release, wait_for

HOST = "127.0.0.1"


class Partition:
    """One partition: nginx and the control process `module`, which reads the JSON file `json`."""

    def __init__(self, folder: Path, module: str, json: str) -> None:
        for name in ("bin", "etc", "srv/kept", "srv/neo", "var/log", "var/run/nginx"):
            (folder / name).mkdir(parents=True, mode=0o700)
        self.folder, self.json, self._module = folder, folder / json, module
        self.control = Control(HOST, free_port())
        self.token = secrets.token_hex(16)
        (folder / "srv/kept/control-token").write_text(self.token)
        files.ensure(folder / "srv/tls", "neo", [HOST])
        names = {"srv": "srv", "run": "var/run", "log": "var/log", "nginx": "var/run/nginx"}
        text = servers.render(
            "stack/erp5/lib/nginx.conf.in",
            directory={name: str(folder / path) for name, path in names.items()},
            ip=HOST,
            control_port=self.control.port,
        )
        (folder / "etc/nginx.conf").write_text(text)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Its takeover-url."""
        return f"https://{HOST}:{self.control.port}/#{self.token}"

    def spawn(self, name: str, *command: object) -> None:
        if name in self.processes and self.processes[name].poll() is None:
            return
        environment = {**os.environ, "OPENSSL_CONF": os.devnull}
        with (self.folder / f"var/log/{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def start_control(self) -> None:
        """nginx, and the control process, which does not wait as long as in production."""
        nginx = f"{servers.part('nginx')}/sbin/nginx"
        errors, conf = self.folder / "var/log/nginx-error.log", self.folder / "etc/nginx.conf"
        self.spawn("nginx", nginx, "-e", errors, "-p", self.folder / "var/run/nginx", "-c", conf)
        fault = (sys.executable, "-m", "tests.service.fault", "", "")
        self.spawn("control", *fault, self._module, "--config", self.json)
        socket, process = self.folder / "var/run/control.sock", self.processes["control"]
        wait_for(lambda: servers.listens(socket) or process.poll() is not None, "the control process")
        assert process.poll() is None, self.log()

    def end(self, *names: str) -> None:
        """End processes, or all, and wait for it."""
        running = [one for name, one in self.processes.items() if (not names or name in names) and one.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait(servers.PATIENCE)

    def log(self) -> str:
        """The end of what everything here has logged."""
        paths = sorted(path for path in (self.folder / "var/log").glob("*.log") if not path.name.startswith("neo-"))
        paths += sorted(path for path in (self.folder / "var/log").glob("service-*.log"))
        return "\n".join(f"-- {path}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)


class NodePartition(Partition):
    """A node, whose addresses are known from the beginning."""

    def __init__(self, folder: Path, name: str, storages: int, master: bool, engine: str = "SQLite") -> None:
        super().__init__(folder, "slapos.recipe.erp5.neo.node_control", "etc/neo-node.json")
        passwords = tuple(f"it's 100% {secrets.token_hex(16)}" for _ in range(storages))
        server = MySQL(str(folder), servers.part("mariadb"), secrets.token_hex(16), passwords)
        self.mysql = server if engine == "MySQL" else None
        if self.mysql:
            self._write_server(self.mysql)
        self.name, self.storages, self.master = name, storages, master
        first = free_port()
        while any(not servers._is_free(HOST, first + number) for number in range(storages)):
            first = free_port()
        self.network = Network(HOST, free_port(), free_port(), first)
        servers.write_program(folder / "bin/neo-start", "slapos.recipe.erp5.neo.start")

    def _write_server(self, server: MySQL) -> None:
        names = {"srv": "srv", "tmp": "tmp", "run": "var/run"}
        (self.folder / "tmp").mkdir()
        text = servers.render(
            "stack/erp5/neo/mariadb.cnf.in",
            parameters={"innodb-buffer-pool-size": servers.SMALL["innodb-buffer-pool-size"]},
            directory={name: str(self.folder / path) for name, path in names.items()},
            mariadb=server.mariadb,
            administrator_password=server.administrator_password,
        )
        server.defaults_file.write_text(text)
        server.defaults_file.chmod(0o600)
        servers.write_program(self.folder / "bin/neo-mariadb", "slapos.recipe.erp5.neo.mysql")
        program = f"{self.folder}/bin/neo-mariadb --config {self.json}"
        context = {
            "mariadb": server.mariadb,
            "defaults_file": str(server.defaults_file),
            "data_directory": str(server.data_directory),
            "on_creation": f'{program} --create "$MARIADB_DATA_DIRECTORY"',
            "on_start": program,
        }
        servers.write_script(self.folder / "bin/mariadb-service", context)

    @property
    def config(self) -> NodeConfig:
        return shapes.load(self.json, NodeConfig)

    def published(self) -> Node:
        """As the cluster's partition has it."""
        network = self.network
        return Node(
            name=self.name,
            storage_count=self.storages,
            listed=True,
            published=True,
            master=f"{HOST}:{network.master_port}" if self.master else "",
            admin=f"{HOST}:{network.admin_port}",
            storages=tuple(f"{HOST}:{network.storage_port + number}" for number in range(self.storages)),
            control_url=self.url,
        )

    def start_service(self, name: str) -> None:
        """Its supervisor, and so the process."""
        run = self.folder / "var/run"
        supervise = (sys.executable, "-I", "-S", "-B", ROOT / "slapos/recipe/erp5/supervise.py")
        start: tuple[object, ...] = (self.folder / "bin/neo-start", "--config", self.json, "--node", name)
        if name == MARIADB:
            start = (self.folder / "bin/mariadb-service",)
        self.spawn(f"service-{name}", *supervise, "--name", f"neo-{name}", "--run", run, "--", *start)

    def start(self) -> None:
        self.start_control()
        for name in self.config.services:
            self.start_service(name)

    def pid(self, name: str) -> int:
        found = supervisor.status(self.config.service(name))
        return found.child_pid if found else 0

    def runs_master(self) -> bool:
        """Whether NEO's own program runs, and not only what waits in its place."""
        command = Path(f"/proc/{self.pid('master')}/cmdline")
        return command.exists() and b"neo_master.py" in command.read_bytes()

    def fenced(self) -> bool:
        """Whether its master is to stay stopped, and none runs."""
        return node_role.of(self.config).load().fenced is not None and not self.runs_master()

    def kept(self) -> list[str]:
        """The databases that were put aside."""
        return sorted(path.name for path in (self.folder / "srv").glob("**/*.replaced-*"))


class Site(Acting, Partition):
    """A cluster `name`: its partition and its nodes, which have `storages` each; the first has the master."""

    actions_module = "slapos.recipe.erp5.neo.actions"
    client, ask_client, write, read = Cluster.client, Cluster.ask_client, Cluster.write, Cluster.read
    hostile_clients = Cluster.hostile_clients
    tls: tuple[Path, ...] = ()

    def __init__(
        self,
        name: str,
        upstream: "Site | None" = None,
        *,
        nodes: int = 1,
        storages: int = 1,
        replicas: int = 0,
        partitions: int = 4,
        control_url: str = "",
        engine: str = "SQLite",
    ) -> None:
        base = Path(tempfile.mkdtemp(prefix=f"n5{name}-", dir="/tmp"))
        super().__init__(base / "cluster", "slapos.recipe.erp5.neo.control", "etc/neo.json")
        self.base, self.name = base, name
        self.nodes = [
            NodePartition(base / f"node-{n}", f"neo-node-{n}", storages, n == 0, engine) for n in range(nodes)
        ]
        follows = Upstream(upstream.name, upstream.masters) if upstream else None
        python = release() / "parts/neoppod"
        software = Software(str(python), *(str(SCRIPTS / f"neo_{name}.py") for name in ("master", "ask", "tls")))
        published = [node.published() for node in self.nodes]
        self.config = ClusterConfig(
            instance=f"cluster {name}",
            partition=str(self.folder),
            software=software,
            cluster=name,
            partitions=partitions,
            replicas=replicas,
            upstream=follows,
            requested_upstream=follows,
            nodes=tuple(published),
            masters=tuple(node.master for node in published if node.master),
            admins=tuple(node.admin for node in published),
            differences=(),
            autostart=True,
            monitor=Monitor(60, ()),
            control=self.control,
            upstream_control_url=control_url,
            tls=None,
        )
        shapes.save(self.json, self.config)
        for node in self.nodes:
            self._write_node(node, follows)

    def _write_node(self, node: NodePartition, follows: Upstream | None) -> None:
        config = NodeConfig(
            instance=f"node {node.name} of {self.name}",
            partition=str(node.folder),
            software=self.config.software,
            cluster=self.name,
            network=node.network,
            masters=self.config.masters,
            cluster_control=f"{HOST}:{self.control.port}",
            master=node.master,
            storages=node.storages,
            partitions=self.config.partitions,
            replicas=self.config.replicas,
            autostart=sum(one.storages for one in self.nodes),
            founding=True,
            upstream=follows,
            control=node.control,
            tls=None,
            mysql=node.mysql,
        )
        shapes.save(node.json, config)

    @property
    def masters(self) -> str:
        return " ".join(node.master for node in (one.published() for one in self.nodes) if node.master)

    # ---- processes

    def start(self) -> "Site":
        self.start_control()
        self.start_nodes()
        return self

    def start_nodes(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        """All that runs, as a machine that is switched off."""
        for one in (self, *self.nodes):
            one.end()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.base)

    # ---- what it is asked

    def asker(self) -> Asker:
        python = Path(self.config.software.program("python"))
        return Asker(python, SCRIPTS / "neo_ask.py", self.name, self.config.admins)

    def status(self) -> Status:
        with self.asker() as asker:
            return asker.status()

    def wait(self, *states: str) -> Status:
        """Until the cluster is in one of these states; returns how it stands then."""
        found: list[Status] = []

        def reached() -> bool:
            found[:] = [asker.status()]
            return found[0].cluster_state in states

        with self.asker() as asker:
            try:
                wait_for(reached, f"{self.name} to be {' or '.join(states)}")
            except AssertionError as error:
                logs = "\n".join(one.log() for one in (self, *self.nodes))
                raise AssertionError(f"{error}, and it is {found[0]}\n{logs}") from error
        return found[0]

    def wait_for_all_of(self, other: "Site") -> None:
        """Until it has all transactions of another one, and its first copy is complete."""
        last = other.status().last_tid or 0

        def reached() -> bool:
            status = self.status()
            return (status.backup_tid or 0) >= last and status.first_copy_goal is None

        wait_for(reached, f"{self.name} to have all of {other.name}")

    def stored(self) -> list[int]:
        """All transactions that are in its storages' files, ascending."""
        found = set[int]()
        for node in self.nodes:
            answer = node_actions.do(node.config, "tids", {"after": tids.text(0), "limit": "1000000"})
            found.update(map(tids.parse, answer["tids"]))
        return sorted(found)

    def judged(self) -> str:
        """What the promise neo-cluster says now."""
        return "\n".join(verdict.cluster(status.gather(self.config, times.now())).sentences)

    @property
    def state(self) -> RoleState:
        return role_state.of(self.config).load()

    def log(self) -> str:
        return "\n".join([Partition.log(self), *(node.log() for node in self.nodes)])

    def fenced(self) -> bool:
        return self.state.fenced is not None and all(node.fenced() for node in self.nodes if node.master)


class Sites:
    """Makes clusters, and ends and removes all of them."""

    def __init__(self) -> None:
        self.made: list[Site] = []

    def __call__(self, name: str, upstream: Site | None = None, **options: Any) -> Site:
        self.made.append(Site(name, upstream, **options))
        return self.made[-1]

    def pair(self, **options: Any) -> tuple[Site, Site]:
        """(upstream `old`, its backup `new`, which has all of it), both running; options of the second."""
        old = self("old").start()
        old.wait("RUNNING")
        old.write(before="kept")
        new = self("new", old, **options).start()
        new.wait("BACKINGUP")
        new.wait_for_all_of(old)
        return old, new

    def end(self) -> None:
        for site in self.made:
            site.remove()
