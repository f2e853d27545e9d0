# SPDX-License-Identifier: GPL-2.0-or-later
"""The shapes of `etc/neo.json` (a cluster's partition) and `etc/neo-node.json` (a node's), and where files lie."""

from dataclasses import dataclass, field
from pathlib import Path

from slapos.recipe.erp5 import config
from slapos.recipe.erp5.control.configuration import Control, Partition
from slapos.recipe.erp5.supervisor import Service
from slapos.recipe.erp5.tls.partition import Caucased

PROGRAMS, NODE_PROGRAMS = "neo", "neo-node"
"""What the names of the programs of a cluster's partition, and of a node's, begin with."""
MASTER, ADMIN = "master", "admin"
"""A node's processes, beside its storages: `storage-0` and so on."""
MARIADB = "mariadb"
"""The server of a node's own, where its storages have the engine MySQL."""


CERTIFICATE_FILES = ("trusted.pem", "client.pem", "client.pem")
"""What NEO takes as --ca, --cert and --key, in the folder of certificates (tls/trusted.py, tls/files.py)."""


def tls_options(files: tuple[Path, ...]) -> tuple[str, ...]:
    """The options of NEO's programs for CA, certificate and key; nothing without TLS."""
    return tuple(word for pair in zip(("--ca", "--cert", "--key"), files, strict=False) for word in map(str, pair))


@dataclass(frozen=True)
class Software:
    """Locations of the release's parts, and our scripts for NEO's own interpreter."""

    neoppod: str
    master_script: str
    ask_script: str
    tls_script: str

    def program(self, name: str) -> str:
        """The path of one of NEO's own programs, such as program("neostorage"), or of its interpreter, `python`."""
        return str(Path(self.neoppod, "bin", name))

    @property
    def ctl_script(self) -> str:
        """Beside the others: neoctl with a mended command."""
        return str(Path(self.ask_script).with_name("neo_ctl.py"))


@dataclass(frozen=True)
class Upstream:
    """The cluster that another one is a backup of; `masters` are its addresses, as it publishes them."""

    cluster: str
    masters: str


@dataclass(frozen=True)
class Followed:
    """What a node's master follows (`srv/neo/upstream.json`), None for nothing."""

    upstream: Upstream | None


def _tls_files(config: Partition) -> tuple[Path, ...]:
    return tuple(config.path("srv", "tls", name) for name in CERTIFICATE_FILES)


# ---- the cluster's partition


@dataclass(frozen=True)
class ClusterTls:
    """The parameter `ssl` where it is on: an authority at `caucased_port` of both addresses (`ipv6` may be empty).

    Who knows `secret` gets a certificate. `upstream_url` is another cluster's neo-certificate-url, or empty.
    """

    ipv4: str
    ipv6: str
    caucased_port: int
    caucased: Caucased
    secret: str = field(repr=False)
    upstream_url: str = field(repr=False)


@dataclass(frozen=True)
class Node:
    """A node of the cluster, as it was requested: `listed` says that `node-list` still has it, `has_partition` that the
    Master has given it one.

    The addresses of its processes are known once the node has published them: `master` is empty where it has none.
    `control_url` is where it does what it is asked for (node_actions.py), with its token.
    """

    name: str
    storage_count: int
    listed: bool
    published: bool
    master: str
    admin: str
    storages: tuple[str, ...]
    control_url: str = field(default="", repr=False)
    has_partition: bool = True


@dataclass(frozen=True)
class BackupCluster:
    """A backup of this cluster that is to be watched, and its admins, addresses with spaces between."""

    cluster: str
    admins: str


@dataclass(frozen=True)
class Monitor:
    """The parameter `monitor`; `maxlag` is in seconds."""

    maxlag: int
    backup_clusters: tuple[BackupCluster, ...]


@dataclass(frozen=True)
class ClusterConfig(Partition):
    """`etc/neo.json`: what the programs of a cluster's partition know.

    `upstream` is what the database was created as a backup of, or is to be (None: an original), and
    `requested_upstream` what the parameters say of that now; `differences` tells in sentences what else they ask for
    and the database is not.
    """

    instance: str  # the instance's title, for messages
    partition: str  # the partition's directory
    software: Software
    cluster: str
    partitions: int
    replicas: int
    upstream: Upstream | None
    requested_upstream: Upstream | None
    nodes: tuple[Node, ...]
    masters: tuple[str, ...]  # addresses; empty until all nodes have published theirs
    admins: tuple[str, ...]
    differences: tuple[str, ...]
    autostart: bool
    monitor: Monitor
    control: Control
    upstream_control_url: str = field(repr=False)  # the upstream's takeover-url, or empty
    tls: ClusterTls | None  # None: without TLS

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """What a client of the cluster is given as CA, certificate and key; nothing without TLS."""
        return _tls_files(self) if self.tls else ()

    @property
    def prefix(self) -> str:
        """What the names of its programs begin with."""
        return PROGRAMS


# ---- a node's partition


@dataclass(frozen=True)
class NodeTls:
    """The authority of the cluster; without a `secret` (empty) somebody approves the request there."""

    caucased_url: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Network:
    """Where the processes of a node listen: on `ip`, storage N on `storage_port` + N. A node without master has no use
    for its port."""

    ip: str
    master_port: int
    admin_port: int
    storage_port: int


@dataclass(frozen=True)
class MySQL:
    """The server of a node whose storages have the engine MySQL: mariadb.config.Server, of the directory `partition`.

    `mariadb` is the release's part; `passwords` are the storages', in their order.
    """

    partition: str
    mariadb: str
    administrator_password: str = field(repr=False)
    passwords: tuple[str, ...] = field(repr=False)

    @property
    def data_directory(self) -> Path:
        return Path(self.partition, "srv", "mariadb")

    @property
    def defaults_file(self) -> Path:
        return Path(self.partition, "etc", "mariadb.cnf")

    @property
    def socket(self) -> Path:
        return Path(self.partition, "var", "run", "mariadb.sock")


@dataclass(frozen=True)
class NodeConfig(Partition):
    """`etc/neo-node.json`: what the programs of a node's partition know.

    `masters` is empty until the cluster's partition has all addresses: nothing starts before. `cluster_control` is
    where that one's control page answers (`host:port`), which a master asks whether the cluster is fenced, or empty:
    nobody is asked. `founding`: the node is
    one of those that the database was created on. `autostart` is how many storages a new cluster waits for before it
    starts by itself; 0: it does not. `upstream` is what a new database is to be a backup of, or None. `mysql` is None
    where the storages have the engine SQLite.
    """

    instance: str
    partition: str
    software: Software
    cluster: str
    network: Network
    masters: tuple[str, ...]
    cluster_control: str
    master: bool
    storages: int
    partitions: int
    replicas: int
    autostart: int
    founding: bool
    upstream: Upstream | None
    control: Control
    tls: NodeTls | None  # None: without TLS
    mysql: MySQL | None

    @property
    def prefix(self) -> str:
        """What the names of its programs begin with."""
        return NODE_PROGRAMS

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """What the processes are given as CA, certificate and key; nothing without TLS."""
        return _tls_files(self) if self.tls else ()

    @property
    def names(self) -> tuple[str, ...]:
        """The node's processes, as neo-start calls them."""
        storages = tuple(f"storage-{number}" for number in range(self.storages))
        return (*((MASTER,) if self.master else ()), ADMIN, *storages)

    @property
    def services(self) -> tuple[str, ...]:
        """All that runs under a supervisor: the node's processes, and the server that the storages may need."""
        return (*((MARIADB,) if self.mysql else ()), *self.names)

    def port(self, name: str) -> int:
        """Where the process `name` listens, on the node's IP."""
        ports = {MASTER: self.network.master_port, ADMIN: self.network.admin_port}
        return ports[name] if name in ports else self.network.storage_port + int(name.removeprefix("storage-"))

    def service(self, name: str) -> Service:
        """One of the processes, under its supervisor."""
        return Service(self.path("var", "run"), f"neo-{name}")

    def log(self, name: str) -> Path:
        """NEO's own log of a process, for neolog."""
        return self.path("var", "log", f"neo-{name}.log")

    def database(self, name: str) -> Path:
        """Where the database of a storage lies: a file, or a folder of the server's."""
        if self.mysql:
            return self.mysql.data_directory / database_name(name)
        return self.path("srv", "neo", f"{name}.sqlite")

    def has_database(self, name: str) -> bool:
        """Whether it is there; of the server's, that it has NEO's tables, whether or not the server runs."""
        return (self.database(name) / "config.frm" if self.mysql else self.database(name)).exists()

    def storage_file(self, name: str) -> Path:
        """What neostorage reads where its database has a password (mode 0600)."""
        return self.path("etc", f"neo-{name}.cfg")

    def set_up(self, name: str) -> Path:
        """The mark that a storage's database was made: from then on a missing one is not made again."""
        return self.path("srv", "neo", f"{name}.set-up")

    @property
    def new_flag(self) -> Path:
        """There from the creation of a backup until its first copy is complete (py2/neo_master.py)."""
        return self.path("srv", "neo", "new")

    @property
    def upstream_partitions(self) -> Path:
        """There while the upstream has another number of partitions, which it holds (py2/neo_master.py)."""
        return self.new_flag.with_name("upstream-partitions")

    @property
    def upstream_file(self) -> Path:
        """What the master follows (Followed); it is there from the creation of the master on."""
        return self.path("srv", "neo", "upstream.json")


def database_name(name: str) -> str:
    """What a storage such as `storage-0` is called in a server: database and account, without what needs quoting."""
    return name.replace("-", "_")


def load_cluster(path: str | Path) -> ClusterConfig:
    """Read `etc/neo.json`. Raises ConfigurationError."""
    return config.load(path, ClusterConfig)


def load_node(path: str | Path) -> NodeConfig:
    """Read `etc/neo-node.json`. Raises ConfigurationError."""
    return config.load(path, NodeConfig)
