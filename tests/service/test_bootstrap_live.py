# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica made of a live copy by the real programs at both ends, over mutual TLS; each end is killed on the way."""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import bootstrap_note, gtid, progress
from slapos.recipe.erp5.mariadb.config import Backup, Config, LogicalBackup, PhysicalBackup
from slapos.recipe.erp5.mariadb.progress import State
from tests.service import servers
from tests.service.control_fixtures import Front
from tests.service.replication_fixtures import replica_service_by_install, services, source_of
from tests.service.servers import Service, wait_for

__all__ = ["services"]

SLOW = 3_000_000
"""Bytes a second: a copy takes more than ten seconds then."""
FINGERPRINT = "SELECT COUNT(*), SUM(a), MD5(GROUP_CONCAT(MD5(b) ORDER BY a)) FROM erp5.t"


class Source(Front):
    """A primary with all that offers live copies of it: nginx and mariadb-control."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.config)
        self.service = service
        self.url = f"https://127.0.0.1:{self.config.network.backup_port}/{self.config.secrets.backup_token}/#live"

    def limit(self, rate: int) -> None:
        servers.write_json(dataclasses.replace(self.config, backup=backup(rate)))


def backup(rate: int) -> Backup:
    return Backup(LogicalBackup(False, "daily", 7), PhysicalBackup(False, "daily", 7, 6), max_rate=rate)


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    config = servers.make_config(folder, backup=backup(0))
    with servers.running(config) as service:
        servers.query(config, "CREATE TABLE erp5.t (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB)")
        servers.query(config, "INSERT INTO erp5.t (b) SELECT RANDOM_BYTES(1000) FROM erp5.seq_1_to_3000")
        source = Source(service)
        try:
            source.start()
            yield source
        finally:
            source.end()
    shutil.rmtree(folder)


@pytest.fixture
def slow(source) -> Iterator[Callable[[int], None]]:
    source.limit(SLOW)
    yield source.limit
    source.limit(0)


@pytest.fixture
def replica(source, make_partition, services) -> Service:
    """Not started."""
    return services(replica_service_by_install(make_partition, source.config, bootstrap_url=source.url))


def wait_for_some_of_it(replica: Service) -> None:
    """Until the copy is under way, and far from its end."""
    new = replica.config.data_directory.with_name("mariadb.new")
    wait_for(lambda: (new / "ibdata1").exists(), f"some of the copy; the log is:\n{replica.log()}")
    assert "step: prepare " not in replica.log()


def installing(replica: Service) -> psutil.Process:
    """The program mariadb-install, which the service runs."""
    found = []
    for pid in replica.group():
        with contextlib.suppress(psutil.NoSuchProcess):  # what it runs comes and goes
            program = psutil.Process(pid)
            found += [program] if "mariadb-install" in " ".join(program.cmdline()[:2]) else []
    (program,) = found
    return program


def state(config: Config) -> State:
    found = progress.load(config.bootstrap_state)
    assert found is not None
    return found


def fingerprint(config: Config) -> list[tuple]:
    """Of all rows; none before the table has arrived."""
    try:
        return servers.query(config, FINGERPRINT)
    except ServerError:
        return []


def assert_follows(source: Source, replica: Service) -> None:
    """It was made of a live copy, has the primary's rows, and gets new ones, over TLS that proves the primary."""
    here, there = source.config, replica.config
    note = bootstrap_note.load(there.data_directory)
    assert note is not None and (note.method, note.tls) == ("live", True)
    position = servers.query(here, "SELECT @@gtid_binlog_pos")[0][0]
    assert note.gtid and not gtid.is_ahead(gtid.parse(note.gtid), gtid.parse(position))
    servers.query(here, "INSERT INTO erp5.t (b) VALUES ('afterwards')")
    wait_for(lambda: fingerprint(there) == fingerprint(here), "the primary's rows")
    (connection,) = source_of(there)
    assert (connection.io.running, connection.sql.running) == ("Yes", "Yes")
    assert (connection.tls, connection.verified) == (True, True)
    assert servers.query(there, "SELECT @@read_only") == [(1,)]
    assert state(there).stage == progress.COMPLETE
    for secret in (here.secrets.backup_token, here.secrets.replication_password):
        assert secret not in replica.log() + there.bootstrap_state.read_text()


def test_mariadb_install_is_killed_and_the_service_started_again(source, slow, replica):
    replica.start()
    wait_for_some_of_it(replica)
    os.kill(installing(replica).pid, signal.SIGKILL)
    assert replica.process.wait(servers.PATIENCE) != 0
    wait_for(lambda: not replica.group(), "the end of what it had started")
    assert not replica.config.data_directory.exists()
    slow(0)
    replica.run()
    assert_follows(source, replica)


def test_the_primary_is_killed_while_it_copies_and_comes_back(source, slow, replica):
    replica.start()
    wait_for_some_of_it(replica)
    source.service.kill()
    wait_for(lambda: state(replica.config).error, "the failure in the state")
    said = state(replica.config).error
    assert re.fullmatch(
        "test instance could not make the copy: cannot copy the data directory: mariadb-backup ended with status 1: .*"
        "(gone away|Lost connection).*",
        said,
    )
    assert "successfully" not in said
    assert f" error: {said}\n" in replica.log()
    assert not replica.config.data_directory.with_name("mariadb.new").exists()
    there = f"127.0.0.1:{source.config.network.port}"
    down = f"error: cannot connect to MariaDB on {there}: "
    wait_for(lambda: down in replica.log(), "an attempt without the primary")
    assert replica.process.poll() is None
    slow(0)
    source.service.run()
    replica.wait_until_it_answers()
    assert_follows(source, replica)
    assert state(replica.config).attempts >= 3
