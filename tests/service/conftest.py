# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the service tests: partitions in short temporary directories, fresh, complete, or running."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.mariadb.config import Config
from tests.service import servers
from tests.service.neo_fixtures import Clusters


@pytest.fixture
def partition() -> Iterator[Path]:
    """A fresh folder with a short name (sockets have 107 bytes), removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def config(partition: Path) -> Config:
    """The Config of a fresh partition with its files, and no database yet."""
    return servers.make_config(partition)


@pytest.fixture
def service(config: Config) -> Iterator[servers.Service]:
    """The service of `config`, not started; whatever the test leaves running is ended."""
    service = servers.Service(config)
    yield service
    servers.stop_for_good(service)


@pytest.fixture
def make_partition() -> Iterator[Callable[..., Config]]:
    """A function that makes one more partition: arguments are fields of Config to change."""
    folders: list[Path] = []

    def make(**changes: object) -> Config:
        folders.append(Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp")))
        return servers.make_config(folders[-1], **changes)

    yield make
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def created() -> Iterator[Config]:
    """A partition whose database was created and served once, and is stopped: to be copied, which is quicker."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    with servers.running(servers.make_config(folder)) as service:
        pass
    yield service.config
    shutil.rmtree(folder)


@pytest.fixture
def complete(created: Config, service: servers.Service) -> servers.Service:
    """The service of a partition with a complete database, not running."""
    # With the files' times: a restart after this is a plain one.
    shutil.copytree(created.data_directory, service.config.data_directory)
    return service


@pytest.fixture(scope="module")
def primary() -> Iterator[Config]:
    """A running primary that was created by its service, for tests that leave it as it was."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    with servers.running(servers.make_config(folder)) as service:
        yield service.config
    shutil.rmtree(folder)


@pytest.fixture
def clusters(partition: Path) -> Iterator[Clusters]:
    """A function that makes clusters of NEO; nothing of them is left afterwards."""
    made = Clusters(partition)
    try:
        yield made
    finally:
        made.end()
