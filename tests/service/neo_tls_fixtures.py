# SPDX-License-Identifier: GPL-2.0-or-later
"""Clusters of NEO with TLS as they are deployed: a partition with the authority, and one of a node, without SlapOS."""

import dataclasses
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.neo import start, status, tls
from slapos.recipe.erp5.neo.ask import Asker
from slapos.recipe.erp5.neo.config import (
    ClusterConfig,
    ClusterTls,
    Control,
    Monitor,
    Network,
    NodeConfig,
    NodeTls,
    Software,
    Upstream,
)
from slapos.recipe.erp5.tls import files, own
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.partition import Caucased
from tests.service.neo_fixtures import CLIENT, SCRIPTS
from tests.service.servers import PATIENCE, free_port, release, wait_for

SECRET = "0123456789abcdef0123456789abcdef"
HOST = "127.0.0.1"


class Site:
    """The cluster `name` with one node that has a master, an admin and a storage; a backup of the site `upstream`.

    `external` is the URL of an authority that is used in place of its own one.
    """

    def __init__(self, folder: Path, name: str, upstream: "Site | None" = None, external: str = "") -> None:
        self.folder, self.name = folder / name, name
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for path in ("cluster/etc", "cluster/var/run", "node/etc", "node/var/run", "node/var/log"):
            (self.folder / path).mkdir(parents=True)
        software = Software(
            neoppod=str(release() / "parts/neoppod"),
            master_script=str(SCRIPTS / "neo_master.py"),
            ask_script=str(SCRIPTS / "neo_ask.py"),
            tls_script=str(SCRIPTS / "neo_tls.py"),
        )
        network = Network(HOST, free_port(), free_port(), free_port())
        masters, admins = (f"{HOST}:{network.master_port}",), (f"{HOST}:{network.admin_port}",)
        follows = Upstream(upstream.name, upstream.masters) if upstream else None
        secret = "" if external else SECRET + name
        own_tls = ClusterTls(
            ipv4=HOST,
            ipv6="",
            caucased_port=free_port(),
            caucased=Caucased(external, ()),
            secret=secret,
            upstream_url=upstream.certificate_url if upstream and not external else "",
        )
        self.cluster = ClusterConfig(
            instance=name,
            partition=str(self.folder / "cluster"),
            software=software,
            cluster=name,
            partitions=4,
            replicas=0,
            upstream=follows,
            requested_upstream=follows,
            nodes=(),
            masters=masters,
            admins=admins,
            differences=(),
            autostart=True,
            monitor=Monitor(60, ()),
            control=Control(HOST, free_port()),
            upstream_control_url="",
            tls=own_tls,
        )
        self.node = NodeConfig(
            instance=f"{name}'s node",
            partition=str(self.folder / "node"),
            software=software,
            cluster=name,
            network=network,
            masters=masters,
            cluster_control="",
            master=True,
            storages=1,
            partitions=4,
            replicas=0,
            autostart=1,
            founding=True,
            upstream=follows,
            control=Control(HOST, free_port()),
            tls=NodeTls(external or own.url(tls.authority(self.cluster)), secret),
            mysql=None,
        )
        for partition in ("cluster", "node"):  # as the recipe `placeholders` does for nginx
            files.ensure(self.folder / partition / "srv/tls", tls.TERMS.server_name, [HOST])
        self.write()

    def write(self) -> None:
        """The partitions' JSON files."""
        shapes.save(self.cluster_json, self.cluster)
        shapes.save(self.node_json, self.node)

    @property
    def cluster_json(self) -> Path:
        return self.folder / "cluster/etc/neo.json"

    @property
    def node_json(self) -> Path:
        return self.folder / "node/etc/neo-node.json"

    @property
    def masters(self) -> str:
        return " ".join(self.cluster.masters)

    @property
    def authority(self) -> tls.Authority:
        return tls.authority(self.cluster)

    @property
    def certificate_url(self) -> str:
        """As it is published."""
        return tls.url(own.url(self.authority), self.authority.certificate_secret)

    @property
    def files(self) -> Files:
        """The node's."""
        return tls.node_files(self.node)

    # ---- its processes

    def start_authority(self) -> None:
        self._start("caucased", "slapos.recipe.erp5.neo.caucased", "--config", str(self.cluster_json))
        url = f"{own.url(self.authority)}/cas/crl"
        wait_for(lambda: _answers(url), f"the authority of {self.name} (see {self.folder}/caucased.out)")

    def start(self) -> None:
        """The node's processes, by the program that the services run."""
        for name in self.node.names:
            self._start(name, start.__name__, "--config", str(self.node_json), "--node", name)

    def _start(self, name: str, module: str, *words: str) -> None:
        assert name not in self.processes, f"{name} was started before"
        with (self.folder / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def end(self, *names: str) -> None:
        """SIGKILL, for all or these."""
        for name in names or tuple(self.processes):
            process = self.processes.pop(name)
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)

    def pids(self) -> dict[str, int]:
        """Of the node's processes, which all run."""
        assert [name for name in self.node.names if self.processes[name].poll() is not None] == []
        return {name: self.processes[name].pid for name in self.node.names}

    # ---- certificates

    def renew(self) -> tuple[int, int]:
        """A regular run in both partitions: their exit statuses."""
        return tls.renew_cluster(self.authority), tls.renew_node(self.node)

    def ready(self) -> None:
        """The authority runs, and the certificates are there."""
        self.start_authority()
        assert self.renew() == (0, 0)

    def shown(self) -> set[str]:
        """Fingerprints of what the node's processes show."""
        return {look.look() for look in tls.node_looks(self.node)}

    # ---- what it is asked

    def asker(self) -> Asker:
        return status.asker(self.cluster)

    def state(self) -> str:
        with self.asker() as asker:
            return asker.status().cluster_state

    def wait(self, state: str) -> None:
        wait_for(lambda: self.state() == state, f"{self.name} to be {state} (see {self.folder})")

    def wait_for_tid(self, tid: int) -> None:
        """Until a backup has all up to `tid`, and its first copy is complete."""

        def reached() -> bool:
            with self.asker() as asker:
                found = asker.status()
            return (found.backup_tid or 0) >= tid and found.first_copy_goal is None

        wait_for(reached, f"{self.name} to have {tid:#x}")

    def client(self, do: str, files: tuple[Path, ...] | None = None, timeout: float = PATIENCE, **options: Any) -> Any:
        """What a client prints; `files`: CA, certificate and key, by default the node's. Raises TimeoutExpired."""
        given = self.node.tls_files if files is None else files
        paths = [str(path) for path in given] or [None] * 3
        text = json.dumps({"do": do, "masters": self.masters, "cluster": self.name, "tls": paths, **options})
        command = [self.node.software.program("python"), str(CLIENT), text]
        result = subprocess.run(command, env={}, capture_output=True, text=True, timeout=timeout)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def write_objects(self, **things: object) -> list[int]:
        return self.client("write", things=list(things.items()))

    def handshake(self, certificate: Path | None) -> None:
        """Connect to the master as a client with this certificate, or none. Raises ssl.SSLError, OSError."""
        context = unverified()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # a refusal of TLS 1.3 would be noticed later
        if certificate:
            context.load_cert_chain(certificate)
        host, port = self.cluster.masters[0].split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as plain, context.wrap_socket(plain):
            pass


def _answers(url: str) -> bool:
    try:
        return urlopen(url, timeout=5).status == 200
    except OSError:
        return False


class Sites:
    """Makes sites, and ends all of their processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, list[Site]()

    def __call__(self, name: str, upstream: Site | None = None, external: str = "") -> Site:
        self.made.append(Site(self.folder, name, upstream, external))
        return self.made[-1]

    def running(self, name: str) -> Site:
        site = self(name)
        site.ready()
        site.start()
        site.wait("RUNNING")
        return site

    def end(self) -> None:
        for site in self.made:
            site.end()


def another_node(site: Site, name: str) -> NodeConfig:
    """A partition of another node, or a client, of the cluster, which knows the secret."""
    folder = site.folder / name
    for path in ("var/run", "etc"):
        (folder / path).mkdir(parents=True)
    return dataclasses.replace(site.node, partition=str(folder))
