# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of live copies share: a server that offers them over mutual TLS, and who asks for one."""

import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from slapos.recipe.erp5.control import web
from slapos.recipe.erp5.errors import Busy
from slapos.recipe.erp5.mariadb import live_receive, store
from slapos.recipe.erp5.mariadb.live_receive import Received
from slapos.recipe.erp5.mariadb.service import SERVICE
from slapos.recipe.erp5.tls.files import Files
from tests.service.authority import Authority, client_context
from tests.service.backup_fixtures import TOKEN, Partition, wait_until


def offer_live(partition: Partition) -> web.Server:
    """Let nginx, with a certificate of an authority, and a server in this process offer live copies of `partition`."""
    Authority().install(partition.config.tls, "127.0.0.1")
    partition.nginx = partition.start_nginx()
    partition.web = web.Server(partition.config.control_socket, web.Application(SERVICE, partition.json))
    return partition.web


@pytest.fixture
def sender(filled: Partition) -> Iterator[Partition]:
    """A server with all kinds of tables, of which live copies are offered."""
    server = offer_live(filled)
    yield filled
    server.stop()


def ask(partition: Partition) -> http.client.HTTPResponse:
    """A live copy of `partition`, as it comes."""
    where = Files(partition.config.tls)
    url = f"https://127.0.0.1:{partition.backup_port}/{TOKEN}/"
    return live_receive.open_live(url, client_context(where.ca, where.client))


def receive(source: Partition, target: Partition) -> Received:
    """Make the data directory of `target` of a live copy of `source`."""
    with ask(source) as response:
        return live_receive.receive(target.config, response, target.config.data_directory, lambda done, total: None)


def copiers(partition: Partition) -> list[psutil.Process]:
    """The mariadb-backup processes of a partition."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            names = {os.path.basename(word) for word in words[:1]}
            if "mariadb-backup" in names and any(str(partition.folder) in word for word in words):
                found.append(process)
    return found


def copier(partition: Partition) -> psutil.Process:
    """The one such process, as soon as there is one."""
    return wait_until(lambda: copiers(partition), "a copying process")[0]


def assert_over(partition: Partition) -> None:
    """No copy is being made any more, nothing of it is left, and another backup may begin."""
    wait_until(lambda: not copiers(partition), "the end of the copying processes")
    wait_until(lambda: not is_busy(partition), "the end of the lock")
    assert list((partition.folder / "tmp").iterdir()) == []
    folders = sorted(path.name for path in partition.folder.iterdir() if path.is_dir())
    assert folders == ["etc", "srv", "tmp", "var"]
    assert not list((partition.folder / "srv").glob("mariadb*[!b]"))


def is_busy(partition: Partition) -> bool:
    try:
        with store.lock(partition.config):
            return False
    except Busy:
        return True


def assert_nothing_came(partition: Partition) -> None:
    """What was received was thrown away."""
    wait_until(lambda: not copiers(partition), "the end of the copying processes")
    assert [path.name for path in (partition.folder / "srv").iterdir() if "mariadb" in path.name] == []


def slow(partition: Partition, rate: int) -> None:
    """Let copies take their time."""
    partition.max_rate = rate
    partition.write_configuration()


def reader(partition: Partition, code: str) -> subprocess.Popen:
    """A process of its own that runs `code`, with `partition`'s live copy opened as `response`."""
    where = Files(partition.config.tls)
    program = (
        "import ssl, sys\n"
        "from pathlib import Path\n"
        "from slapos.recipe.erp5.mariadb import config, live_receive\n"
        f"context = ssl.create_default_context(cafile={str(where.ca)!r})\n"
        f"context.load_cert_chain({str(where.client)!r})\n"
        f"response = live_receive.open_live('https://127.0.0.1:{partition.backup_port}/{TOKEN}/', context)\n"
    )
    return partition.spawn(sys.executable, "-c", program + code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
