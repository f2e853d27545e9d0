# SPDX-License-Identifier: GPL-2.0-or-later
"""Real partitions in temporary directories: a Config laid out as in production, and the processes that run on it."""

import collections
import contextlib
import dataclasses
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pymysql
from pymysql.connections import Connection

from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import private_server, sql
from slapos.recipe.erp5.mariadb.config import (
    Backup,
    Caucased,
    Config,
    Database,
    LogicalBackup,
    Network,
    PhysicalBackup,
    Secrets,
    SemiSync,
    Software,
)
from tests.render.partition import complete
from tests.service import prepared

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120
"""Seconds that anything may take before a test gives up on it; nothing here measures time."""
PORTS = range(6700, 10000)
"""Outside the ephemeral range (32768-60999), from which any client could take one, and the instances' (10000-31999), as
the cluster scenarios run beside; below are ports that browsers refuse."""
SMALL = {"innodb-buffer-pool-size": 32 << 20, "innodb-log-file-size": 16 << 20}
NASTY_PASSWORD = """ it's "100%" $HOME `id` \\ \\' #;-- é 日本 %s """
"""What a password may look like: quotes, spaces at both ends, %, $, backslashes, not ASCII."""


def release() -> Path:
    """The built release, from ERP5_RELEASE: a missing one is an error, never a skip."""
    return Path(os.environ["ERP5_RELEASE"])


def part(name: str) -> str:
    return str(release() / "parts" / name)


def time_zones() -> Path:
    """All those of the release."""
    return release() / "parts" / "tzdata" / "usr" / "share" / "zoneinfo"


def share(ports: range) -> range:
    """The part of `ports` that is this process's, as pytest may run in several at once: what is free now stays so."""
    number, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    size = len(ports) // int(count)
    return ports[int(number[2:]) * size :][:size]


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at the moment, and that was not given out lately; the one after it is free too.

    An authority takes both.
    """
    ports = share(PORTS)[::2]
    for port in random.sample(ports, len(ports)):
        if port not in _given and _is_free(host, port) and _is_free(host, port + 1):
            _given.append(port)
            return port
    raise AssertionError(f"no free port in {PORTS}")


_given: collections.deque[int] = collections.deque(maxlen=300)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe, contextlib.suppress(OSError):
        probe.bind((host, port))
        return True
    return False


def listens(path: Path) -> bool:
    """Whether somebody takes connections on a Unix socket, which is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def is_up(nginx: subprocess.Popen) -> bool:
    """Whether nginx has its workers: until then its pid file may be empty, and a SIGTERM is lost now and then."""
    assert nginx.poll() is None, f"nginx ended with {nginx.returncode}"
    return bool(Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text())


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll until `condition()` is true. Raises AssertionError, saying what was waited for."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.02)


# ---- a partition's files


def make_config(partition: Path, **changes: Any) -> Config:
    """A Config for a fresh partition in the folder `partition` (a short name: sockets), with its files and folders."""
    for name in ("bin", "etc", "srv", "srv/backup", "srv/kept", "tmp", "var", "var/log", "var/run"):
        (partition / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    config = Config(
        instance="test instance",
        partition=str(partition),
        software=Software(
            mariadb=part("mariadb"),
            logrotate=part("logrotate"),
            percona_toolkit=part("percona-toolkit"),
            zstd=part("zstd"),
            zoneinfo=prepared.few_time_zones(partition / "etc" / "zoneinfo", time_zones()),
        ),
        network=Network(
            ipv4="127.0.0.1",
            ipv6="",
            port=free_port(),
            backup_port=free_port(),
            caucased_port=free_port(),
            control_port=free_port(),
        ),
        server_id=random.randint(1, 2**31),
        secrets=Secrets("administrator-secret-0123", "replication-secret-4567", "token-89ab"),
        databases=(Database("erp5", "erp5_user", NASTY_PASSWORD, with_process_privilege=True),),
        test_databases=(Database("erp5_test_0", "testuser_0", "test-secret-0"),),
        character_set="utf8mb4",
        collation="utf8mb4_general_ci",
        mroonga=True,
        innodb_log_file_size=SMALL["innodb-log-file-size"],
        binlog_expire_days=7,
        backup=Backup(LogicalBackup(True, "daily", 7), PhysicalBackup(False, "daily", 7, 6), max_rate=0),
        replication=None,
        replication_user="replication_user",
        replicas_use_tls=True,
        caucased=Caucased("", ()),
        semi_sync=SemiSync(False, 10),
    )
    config = dataclasses.replace(config, **changes)
    write_config(config)
    return config


def use_all_time_zones(config: Config) -> None:
    """Let the partition load the release's time zones, which takes long enough to be interrupted."""
    zoneinfo = str(time_zones())
    write_json(dataclasses.replace(config, software=dataclasses.replace(config.software, zoneinfo=zoneinfo)))


def write_config(config: Config) -> None:
    """(Re)write all files of the partition, as processing it does."""
    write_json(config)
    prepared.placeholders(config.tls, "mariadb", (config.network.ipv4, config.network.ipv6))
    cnf = render("stack/erp5/mariadb/mariadb.cnf.in", **cnf_context(config))
    config.defaults_file.write_text(cnf)
    programs = {"create": "create", "on-start": "start", "provision": "provision"}
    for program, module in programs.items():
        write_program(config.path("bin", f"mariadb-{program}"), f"slapos.recipe.erp5.mariadb.{module}")
    write_script(config.path("bin", "mariadb-service"), service_context(config))


def write_json(config: Config) -> None:
    """(Re)write `etc/mariadb.json` alone, which takes effect without a change of the server's own configuration."""
    config.path("etc", "mariadb.json").write_text(json.dumps(_plain(dataclasses.asdict(config))))


def _plain(value: object) -> object:
    """Dataclass fields as JSON keys, which have `-` for `_`."""
    if isinstance(value, Mapping):
        return {key.replace("_", "-"): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def cnf_context(config: Config) -> dict[str, object]:
    """What the instance profile gives to mariadb.cnf.in."""
    parameters = {
        **complete("mariadb", {}),
        **SMALL,
        "character-set-server": config.character_set,
        "collation-server": config.collation,
        "binlog-expire-days": config.binlog_expire_days,
        "innodb-log-file-size": config.innodb_log_file_size,
    }
    names = {"srv": "srv", "tmp": "tmp", "run": "var/run", "log": "var/log"}
    return {
        "parameters": parameters,
        "directory": {name: str(config.path(folder)) for name, folder in names.items()},
        "address": {"ipv4": config.network.ipv4, "ipv6": config.network.ipv6},
        "mariadb": config.software.mariadb,
        "port": config.network.port,
        "server_id": config.server_id,
        "administrator_password": config.secrets.administrator_password,
    }


def service_context(config: Config) -> dict[str, str]:
    """What the instance profile gives to mariadbd-service.sh.in."""
    json_file = shlex.quote(str(config.path("etc", "mariadb.json")))
    programs = shlex.quote(str(config.path("bin")))
    return {
        "mariadb": config.software.mariadb,
        "defaults_file": str(config.defaults_file),
        "data_directory": str(config.data_directory),
        "on_creation": f'{programs}/mariadb-create --config {json_file} --data-directory "$MARIADB_DATA_DIRECTORY"',
        "on_start": f"{programs}/mariadb-on-start --config {json_file}",
        "options_file": str(config.server_options),
    }


def render(template: str, **context: object) -> str:
    """A template of the repository as slapos.recipe.template:jinja2 renders it; an unknown name is an error."""
    imported = jinja2.FunctionLoader(lambda name: (ROOT / f"stack/erp5/lib/{name}.conf.in").read_text(encoding="utf-8"))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, loader=imported)
    return environment.from_string((ROOT / template).read_text(encoding="utf-8")).render(**context)


def write_script(path: Path, context: Mapping[str, str]) -> None:
    path.write_text(render("component/mariadb/mariadbd-service.sh.in", **context), encoding="utf-8")
    path.chmod(0o700)


def write_program(path: Path, module: str) -> None:
    """What a console script is: one import and one call."""
    path.write_text(f"#!{sys.executable}\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n")
    path.chmod(0o700)


# ---- its processes


class Service:
    """The mariadbd service of a partition, started as a supervisor does: in a process group of its own, with a log."""

    def __init__(self, config: Config, script: Path | None = None) -> None:
        self.config = config
        self.script = script or config.path("bin", "mariadb-service")
        self.log_file = config.path("var", "log", "service.log")
        self.arguments: tuple[str, ...] = ()
        self.process: subprocess.Popen | None = None

    def start(self) -> subprocess.Popen:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [self.script, *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    def answers(self) -> bool:
        """Whether the server answers; a service that ended first is a failure, with its log."""
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended with {self.process.returncode}:\n{self.log()}"
        return private_server.answers(self.config.socket)

    def wait_until_it_answers(self) -> None:
        wait_for(self.answers, f"an answer on {self.config.socket}")

    def run(self) -> None:
        """Start, and wait until it answers."""
        self.start()
        self.wait_until_it_answers()

    def end(self) -> int:
        """SIGTERM to the whole group, as a supervisor does, and wait; returns its exit code."""
        return self._signal_group(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL to the whole group."""
        return self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        code = self.process.wait(PATIENCE)
        wait_for(lambda: not self.group(), "the end of the service's processes")
        return code

    def group(self) -> list[int]:
        """The pids in the service's process group that are still running."""
        assert self.process is not None
        return [pid for pid, group in _groups() if group == self.process.pid]

    def restart(self) -> None:
        self.end()
        self.run()

    def log_of(self, action: Callable[[], object]) -> str:
        """What the service logs while `action` runs."""
        before = len(self.log())
        action()
        return self.log()[before:]


def _groups() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    yield int(folder.name), int(group)


@contextlib.contextmanager
def running(config: Config) -> Iterator[Service]:
    """The partition's service, running; nothing of it is left afterwards, whatever the test did."""
    service = Service(config)
    try:
        service.run()
        yield service
    finally:
        stop_for_good(service)


def stop_for_good(service: Service) -> None:
    """End a service however it stands; SIGKILL when SIGTERM does not do it."""
    if service.process is None:
        return
    try:
        service.end()
    except (AssertionError, subprocess.TimeoutExpired):
        service.kill()


# ---- asking servers


def administrator(config: Config) -> Connection:
    """A connection of the partition's own administration account."""
    return sql.connect(config.defaults_file)


def query(config: Config, statement: str, *values: object) -> list[tuple]:
    """The rows of one statement, as the administration account."""
    with administrator(config) as connection:
        return sql.execute(connection, statement, values)


def login(config: Config, user: str, password: str, database: str | None = None, host: str = "") -> Connection:
    """A connection as an application makes it: by TCP to `host` (IPv4 by default), or the socket for `localhost`."""
    where = {"unix_socket": str(config.socket)} if host == "localhost" else {"host": host or config.network.ipv4}
    return pymysql.connect(
        user=user,
        # PyMySQL would send anything but ASCII as latin1, unlike every other client.
        password=password.encode("utf-8"),
        database=database,
        port=config.network.port,
        charset="utf8mb4",
        ssl_disabled=True,  # PyMySQL would use TLS wherever the server offers it
        **where,
    )


def accounts(config: Config) -> dict[str, str]:
    """Every account with all that the server knows of it, and its grants: what must not change by itself."""
    with administrator(config) as connection:
        found = {}
        for account in sorted(sql.accounts(connection)):
            values = (account.user, account.host)
            try:
                shown = sql.execute(connection, "SHOW CREATE USER %s@%s", values)
                grants = sql.execute(connection, "SHOW GRANTS FOR %s@%s", values)
            except sql.ServerError:  # without name resolution, accounts of host names are ignored: they exist still
                entry = "SELECT Priv FROM mysql.global_priv WHERE User = %s AND Host = %s"
                shown, grants = sql.execute(connection, entry, values), []
            found[str(account)] = "\n".join([shown[0][0], *(row[0] for row in grants)])
        return found


def load(config: Config) -> Config:
    """The partition's Config as its programs read it."""
    return configuration.load(config.path("etc", "mariadb.json"))


def install_plainly(config: Config, *options: str) -> Config:
    """Make the partition's data directory as somebody without our programs does: mariadb-install-db, nothing else."""
    command = [config.program("mariadb-install-db"), f"--defaults-file={config.defaults_file}", *options]
    subprocess.run([*command, f"--datadir={config.data_directory}"], check=True, stdout=subprocess.DEVNULL)
    return config
