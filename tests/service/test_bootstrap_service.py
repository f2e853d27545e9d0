# SPDX-License-Identifier: GPL-2.0-or-later
"""The service of a replica, from nothing to replicating, with the real programs; killed on the way, it begins again."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import bootstrap_note
from slapos.recipe.erp5.mariadb.config import Config
from tests.service import servers
from tests.service.bootstrap_fixtures import Site
from tests.service.replication_fixtures import replica_service_by_install, services
from tests.service.servers import Service, wait_for

__all__ = ["services"]

ROWS = "SELECT COUNT(*), SUM(a) FROM erp5.t"


@pytest.fixture(scope="module")
def source() -> Iterator[Service]:
    """A primary with a dump and a physical chain, without TLS."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    config = servers.make_config(folder, replicas_use_tls=False)
    with servers.running(config) as service:
        servers.query(config, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
        for number, module in enumerate(("physical", "physical", "backup")):
            servers.query(config, "INSERT INTO erp5.t VALUES (%s)", number)
            servers.write_program(config.path("bin", "back-up"), f"slapos.recipe.erp5.mariadb.{module}")
            command = [config.path("bin", "back-up"), "--config", config.path("etc", "mariadb.json")]
            subprocess.run(command, check=True, timeout=servers.PATIENCE)
        servers.query(config, "INSERT INTO erp5.t VALUES (10)")
        yield service
    shutil.rmtree(folder)


@pytest.fixture
def site(source) -> Iterator[Site]:
    site = Site(source.config.offered)
    yield site
    site.end()


def rows(config: Config) -> list[tuple]:
    """None before the table has arrived."""
    try:
        return servers.query(config, ROWS)
    except ServerError:
        return []


def replica_of(source: Service, make_partition, bootstrap_url: str) -> Service:
    changes = {"bootstrap_url": bootstrap_url, "replicate_with_tls": False}
    return replica_service_by_install(make_partition, source.config, **changes)


@pytest.mark.parametrize(
    ("kind", "stage", "method"),
    [
        ("#physical", "step: unpack ", "physical"),
        ("#physical", "step: prepare ", "physical"),
        ("#dump", "step: load ", "dump"),
        ("", "step: initialise ", "logs"),
    ],
)
def test_killed_and_started_again_it_becomes_a_replica(source, site, make_partition, services, kind, stage, method):
    here = source.config
    replica = services(replica_of(source, make_partition, site.url + kind if kind else ""))
    there = replica.config
    replica.start()
    wait_for(lambda: stage in replica.log(), stage)
    replica.kill()
    assert not there.data_directory.exists()
    replica.run()
    note = bootstrap_note.load(there.data_directory)
    assert note is not None and note.method == method
    steps = ("step: replicate from ", "step: on_creation", " is complete already")
    said = replica.log()
    assert sorted(steps, key=said.rindex) == list(steps), said
    number = servers.query(here, "SELECT MAX(a) FROM erp5.t")[0][0] + 1
    servers.query(here, "INSERT INTO erp5.t VALUES (%s)", number)
    wait_for(lambda: rows(there) == rows(here), "the primary's rows")
    (status,) = servers.query(there, "SELECT @@read_only")
    assert status == (1,)
    entry = here.databases[0]
    servers.login(there, entry.user, entry.password, entry.name).close()
