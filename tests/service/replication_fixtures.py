# SPDX-License-Identifier: GPL-2.0-or-later
"""Two servers, the one a replica of the other, made by our own programs but for what fetches a backup."""

import contextlib
import dataclasses
import json
import random
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import bootstrap_note, primary, sql_replication
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import REPLICATION_USER, Config, Replication
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.sql_replication import Source
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers
from tests.service.servers import Service, wait_for


def address(config: Config, host: str = "", **changes: Any) -> Primary:
    """Where the server of `config` can be replicated from."""
    where = Primary(
        host or config.network.ipv4, config.network.port, REPLICATION_USER, config.secrets.replication_password
    )
    return dataclasses.replace(where, **changes)


def parameters(source: Primary, **changes: Any) -> Replication:
    """The parameter `replication` that names `source`, complete."""
    values = {
        "primary_url": primary.url(source),
        "bootstrap_url": "",
        "caucased_url": "",
        "seconds_behind_master_threshold": 60,
        "allow_tcp_connections_on_replica": True,
        "replicate_with_tls": True,
    }
    return Replication(**{**values, **changes})


def note(source: Primary, gtid: str = "", tls: bool = True, method: str = "") -> Bootstrap:
    now = times.text(times.now())
    return Bootstrap(
        method=method or ("physical" if gtid else "logs"),
        gtid=gtid,
        primary=source.address,
        user=source.user,
        tls=tls,
        server_version="10.11.19-MariaDB",
        started=now,
        ended=now,
    )


def share_certificates(source: Config, replica: Config) -> None:
    """Give the replica what the exchange would: the primary's authority, and a certificate of it."""
    theirs, ours = Files(source.tls), Files(replica.tls).upstream
    ours.folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("ca.pem", "crl.pem", "client.pem"):
        shutil.copy(theirs.folder / name, ours.folder / name)


def install_script(config: Config, begun: Bootstrap, copy_of: Path | None = None) -> str:
    """A custom_install for the service script: an empty database or a copy of one, with the note of its making."""
    database = (
        f'cp -a {shlex.quote(str(copy_of))} "$1" && rm -f "$1"/binlog.* "$1"/slapos.state.json "$1"/mysql_upgrade_info'
        if copy_of
        else 'plain_install "$1"'
    )
    content = json.dumps({key.replace("_", "-"): value for key, value in dataclasses.asdict(begun).items()})
    return f'{database}\nprintf %s {shlex.quote(content)} >"$1/{bootstrap_note.BOOTSTRAP}"'


def replica_service(config: Config, begun: Bootstrap, copy_of: Path | None = None) -> Service:
    """The service of a replica to be made, not started."""
    context = {**servers.service_context(config), "custom_install": install_script(config, begun, copy_of)}
    servers.write_script(config.path("bin", "mariadb-service"), context)
    return Service(config)


@dataclasses.dataclass
class Pair:
    """A primary and its replica, with their services."""

    primary: Service
    replica: Service

    def caught_up(self) -> bool:
        here, there = (
            servers.query(one.config, "SELECT @@gtid_current_pos")[0][0] for one in (self.primary, self.replica)
        )
        return here == there

    def wait(self) -> None:
        """Until all that the primary has is on the replica."""
        wait_for(self.caught_up, "the replica to catch up")

    def source(self) -> Source:
        (source,) = source_of(self.replica.config)
        return source


def source_of(config: Config) -> tuple[Source, ...]:
    with servers.administrator(config) as connection:
        return sql_replication.sources(connection)


Make = Callable[..., Config]


@pytest.fixture
def services() -> Iterator[Callable[[Service], Service]]:
    """A function that looks after a service: whatever is left running is ended."""
    looked_after: list[Service] = []

    def look_after(service: Service) -> Service:
        looked_after.append(service)
        return service

    yield look_after
    for service in reversed(looked_after):
        servers.stop_for_good(service)


@contextlib.contextmanager
def temporary_partition(**changes: Any) -> Iterator[Config]:
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    try:
        yield servers.make_config(folder, **changes)
    finally:
        shutil.rmtree(folder)


def replica_config(make: Callable[..., Config], source: Config, **changes: Any) -> Config:
    """A partition that is to be a replica of `source`; `changes` are of its parameter `replication`."""
    config = make(
        replication=parameters(address(source), **changes),
        secrets=dataclasses.replace(source.secrets, administrator_password="another-administrator-6789"),
        databases=tuple(dataclasses.replace(entry, password="") for entry in source.databases),
        test_databases=tuple(dataclasses.replace(entry, password="") for entry in source.test_databases),
        server_id=random.randint(1, 2**31),
    )
    share_certificates(source, config)
    return config


def replica_service_by_install(make: Callable[..., Config], source: Config, **changes: Any) -> Service:
    """The service of a replica that mariadb-install makes, not started; `changes` are of its `replication`."""
    config = replica_config(make, source, **changes)
    servers.write_program(config.path("bin", "mariadb-install"), "slapos.recipe.erp5.mariadb.install")
    programs, json_file = (shlex.quote(str(config.path(*names))) for names in (("bin",), ("etc", "mariadb.json")))
    install = f'{programs}/mariadb-install --config {json_file} --data-directory "$MARIADB_DATA_DIRECTORY"'
    context = {**servers.service_context(config), "custom_install": install}
    servers.write_script(config.path("bin", "mariadb-service"), context)
    return Service(config)


@contextlib.contextmanager
def running_pair(**changes: Any) -> Iterator[Pair]:
    """A primary and a replica from its binary logs, caught up; `changes` are of the parameter `replication`."""
    tls = changes.get("replicate_with_tls", True)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(temporary_partition(replicas_use_tls=tls))
        first = stack.enter_context(servers.running(source))
        config = replica_config(lambda **more: stack.enter_context(temporary_partition(**more)), source, **changes)
        second = replica_service(config, note(address(source), tls=tls))
        try:
            second.run()
            pair = Pair(first, second)
            pair.wait()
            yield pair
        finally:
            servers.stop_for_good(second)


class KeptPair:
    """A pair that is caught up and stopped, and a copy of both partitions: each test begins with these."""

    def __init__(self, pair: Pair, copies: Path) -> None:
        self.pair, self.copies = pair, copies
        for service in (pair.replica, pair.primary):
            service.end()
            folder = Path(service.config.partition)
            shutil.copytree(folder, copies / folder.name, ignore=_no_pipes, symlinks=True)

    @contextlib.contextmanager
    def begun(self) -> Iterator[Pair]:
        """Both as they were, running and caught up; killed at the end."""
        pair = Pair(*(Service(service.config, service.script) for service in (self.pair.primary, self.pair.replica)))
        try:
            for service in (pair.primary, pair.replica):
                folder = Path(service.config.partition)
                shutil.rmtree(folder)
                shutil.copytree(self.copies / folder.name, folder, symlinks=True)
                service.run()
            # There is nothing to catch up with, so that alone would be true before the replica has connected.
            wait_for(lambda: pair.source().io.running == "Yes", "the replica to be connected")
            pair.wait()
            yield pair
        finally:
            for service in (pair.primary, pair.replica):
                with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                    service.kill()


def _no_pipes(folder: str, names: list[str]) -> list[str]:
    """What is no file: sockets and pipes, which nobody can copy."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not (path.is_dir() or path.is_file() or path.is_symlink())]


@contextlib.contextmanager
def kept_pair(*statements: str) -> Iterator[KeptPair]:
    """A pair to begin with again and again, on whose primary some statements were executed."""
    with running_pair() as pair, tempfile.TemporaryDirectory(prefix="e5-", dir="/tmp") as copies:
        for statement in statements:
            servers.query(pair.primary.config, statement)
        pair.wait()
        yield KeptPair(pair, Path(copies))
