# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary lets a replica in no longer while that is being made: one sentence, nothing is left, and it mends itself.

All of it is real: mariadb-install with its loop, the primary's server and its endpoint; only pauses are short.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import bootstrap_note, decide, progress
from slapos.recipe.erp5.mariadb.config import REPLICATION_USER, Config
from slapos.recipe.erp5.tls import authority
from slapos.recipe.erp5.tls.files import CLIENT_NAME, Files
from tests.service import servers
from tests.service.authority import DAY, Authority
from tests.service.bootstrap_fixtures import Site
from tests.service.replication_fixtures import address, parameters, replica_service_by_install, services
from tests.service.servers import Service, wait_for
from tests.service.tls_fixtures import Endpoint

__all__ = ["services"]

AUTHORITY, OTHER = Authority(), Authority("another authority")
INSTALL = f"""#!{sys.executable}
import sys

from slapos.recipe.erp5.mariadb import install

install.FIRST_PAUSE = install.LONGEST_PAUSE = 0.3
sys.exit(install.main())
"""
ROWS = "SELECT COUNT(*), MD5(GROUP_CONCAT(MD5(b) ORDER BY a)) FROM erp5.t"
CONNECT = "error: cannot connect to MariaDB on {address}: "
CERTIFICATE = "/tmp/[^/]+/srv/tls/upstream/client.pem"
DENIED = (
    r"Access denied for user 'replication_user'@'127\.0\.0\.1' \(using password: YES\) \(1045\), expected to be let in:"
    f" give replication.primary-url as the primary publishes it now, and see that {CERTIFICATE} is of its authority"
)
SILENT = (
    rf".*\((2006|2013)\), expected to be let in: see that the primary runs, and that {CERTIFICATE} has neither expired"
    " nor been revoked"
)
UNKNOWN = r".*certificate verify failed.*"
NO_ENDPOINT = (
    r"error: the primary's endpoint https://127\.0\.0\.1:\d+ does not answer \(Connection refused\), expected it to run"
    " and be reachable"
)

NO_PROOF = (
    r"error: the primary's endpoint https://127\.0\.0\.1:\d+ refuses our proof \(the proof is not one of this primary's"
    r" replication password\), expected it to know the password of replication\.primary-url: give the URL that the"
    " primary publishes now"
)


@pytest.fixture(scope="module")
def source() -> Iterator[Service]:
    """A primary with more than a MiB of rows, and a dump of them; certificates are asked for."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    config = servers.make_config(folder)
    AUTHORITY.install(config.tls, "127.0.0.1")
    with servers.running(config) as service:
        servers.query(config, "CREATE TABLE erp5.t (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB)")
        servers.query(config, "INSERT INTO erp5.t (b) SELECT RANDOM_BYTES(1000) FROM erp5.seq_1_to_3000")
        servers.write_program(config.path("bin", "back-up"), "slapos.recipe.erp5.mariadb.backup")
        command = [config.path("bin", "back-up"), "--config", config.path("etc", "mariadb.json")]
        subprocess.run(command, check=True, timeout=servers.PATIENCE)
        yield service
    shutil.rmtree(folder)


class World:
    """A replica under way, half of its dump loaded, whose primary has no endpoint at this moment."""

    def __init__(self, source: Service, site: Site, replica: Service) -> None:
        self.source, self.site, self.replica = source.config, site, replica
        self.upstream = Files(replica.config.tls).upstream
        self.endpoint: Endpoint | None = None

    def ask_for(self, password: str = "") -> None:
        """Write the replica's parameters, which have the primary's endpoint, and its password."""
        base = f"https://127.0.0.1:{self.source.network.backup_port}"
        where = address(self.source, endpoint=base)
        where = dataclasses.replace(where, password=password or where.password)
        asked = parameters(where, bootstrap_url=f"{self.site.url}#dump")
        servers.write_json(dataclasses.replace(self.replica.config, replication=asked))

    def begin(self) -> None:
        """Until half of the dump is loaded."""
        (dump,) = (name for name in os.listdir(self.site.folder) if name.endswith(".sql.zst"))
        self.site.stall = dump
        self.ask_for()
        self.replica.start()
        wait_for(lambda: self.said_of(r"step: load .*\.sql\.zst"), "the loading of the dump")

    def said_of(self, sentence: str) -> list[str]:
        """The lines of the replica's log that are this sentence."""
        lines = [line.split(" ", 2)[-1] for line in self.replica.log().splitlines()]
        return [line for line in lines if re.fullmatch(sentence, line)]

    def open_endpoint(self) -> None:
        self.endpoint = Endpoint(self.source, lambda: self.source)

    def close_endpoint(self) -> None:
        if self.endpoint:
            self.endpoint.server.shutdown()
            self.endpoint.server.server_close()


@pytest.fixture
def world(source, make_partition, services, monkeypatch) -> Iterator[World]:
    config = source.config
    AUTHORITY.install(config.tls, "127.0.0.1")
    servers.query(config, "FLUSH SSL")
    monkeypatch.setattr(authority, "sign", lambda config, request, kind: AUTHORITY.sign(request))
    replica = services(replica_service_by_install(make_partition, config))
    replica.config.path("bin", "mariadb-install").write_text(INSTALL)
    site = Site(config.offered)
    made = World(source, site, replica)
    yield made
    made.close_endpoint()
    site.end()
    change_password(config, config.secrets.replication_password)


# ---- what happens meanwhile, and what mends it


def change_password(config: Config, password: str) -> None:
    servers.query(config, f"ALTER USER {REPLICATION_USER}@'{decide.IPV4}' IDENTIFIED BY '{password}'")


def another_password(world: World) -> None:
    change_password(world.source, "another one")


def expired(world: World) -> None:
    world.upstream.client.write_text(AUTHORITY.issue(CLIENT_NAME, until=times.now() - DAY))


def another_subject(world: World) -> None:
    world.upstream.client.write_text(AUTHORITY.issue("somebody-else"))


def revoked(world: World) -> None:
    AUTHORITY.revoke(world.upstream.client.read_text())
    process.write_atomically(Files(world.source.tls).crl, AUTHORITY.crl())
    servers.query(world.source, "FLUSH SSL")


def another_authority(world: World) -> None:
    """All that the replica has is of another one, and fits together."""
    world.upstream.ca.write_text(OTHER.ca())
    world.upstream.crl.write_text(OTHER.crl())
    world.upstream.client.write_text(OTHER.issue(CLIENT_NAME))


def the_new_password(world: World) -> None:
    world.ask_for("another one")


@pytest.mark.parametrize(
    ("happens", "sentence", "later", "mend"),
    [
        (another_password, CONNECT + DENIED, CONNECT + DENIED, the_new_password),
        (expired, CONNECT + SILENT, NO_ENDPOINT, World.open_endpoint),
        (another_subject, CONNECT + DENIED, NO_ENDPOINT, World.open_endpoint),
        (revoked, CONNECT + SILENT, CONNECT + SILENT, World.open_endpoint),
        (another_authority, CONNECT + UNKNOWN, CONNECT + UNKNOWN, World.open_endpoint),
    ],
    ids=["password", "expired", "subject", "revoked", "authority"],
)
def test_it_is_let_in_no_longer_and_then_again(
    source, world, happens: Callable[[World], None], sentence: str, later: str, mend: Callable[[World], None]
):
    here, there = source.config, world.replica.config
    before = servers.query(here, ROWS)
    world.begin()
    happens(world)
    world.site.go_on()
    where = re.escape(address(here).address)
    wait_for(lambda: world.said_of(sentence.format(address=where)), f"{sentence}; the log is:\n{world.replica.log()}")
    # The next attempts end before anything is made.
    count = len(world.said_of("error: .*"))
    wait_for(lambda: len(world.said_of("error: .*")) >= count + 2, "two more attempts")
    assert not [path.name for path in there.path("srv").iterdir() if path.name.startswith("mariadb.new")]
    assert not there.data_directory.exists()
    state = progress.load(there.bootstrap_state)
    assert state is not None and re.fullmatch(later.format(address=where), f"error: {state.error}"), state
    assert world.replica.process.poll() is None, "the service stays"
    assert servers.query(here, ROWS) == before

    mend(world)
    assert_made(source, world)


def test_a_password_that_was_wrong_from_the_beginning(source, world):
    """Nothing is known of the primary's authority yet, and its endpoint is there."""
    shutil.rmtree(world.upstream.folder)
    world.open_endpoint()
    world.ask_for("guessed")
    world.replica.start()
    wait_for(lambda: len(world.said_of(NO_PROOF)) >= 2, f"{NO_PROOF}; the log is:\n{world.replica.log()}")
    assert not [path.name for path in world.replica.config.path("srv").glob("mariadb*") if path.is_dir()]
    assert not world.upstream.folder.exists()
    world.ask_for()
    assert_made(source, world)


def assert_made(source: Service, world: World) -> None:
    """By itself it becomes a replica that has all, gets what comes, and says no secret."""
    here, there = source.config, world.replica.config
    world.replica.wait_until_it_answers()
    note = bootstrap_note.load(there.data_directory)
    assert note is not None and (note.method, note.tls) == ("dump", True)
    servers.query(here, "INSERT INTO erp5.t (b) VALUES ('afterwards')")
    wait_for(lambda: rows(there) == servers.query(here, ROWS), "the primary's rows")
    for secret in (here.secrets.replication_password, here.secrets.backup_token, "another one", "guessed"):
        assert secret not in world.replica.log() + there.bootstrap_state.read_text()


def rows(config: Config) -> list[tuple]:
    """None before the table has arrived."""
    with contextlib.suppress(ServerError):
        return servers.query(config, ROWS)
    return []
