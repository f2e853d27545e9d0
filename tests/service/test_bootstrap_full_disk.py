# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk fills up while a replica is made of a live copy, or of a dump: one sentence, nothing is left, it mends itself.

Files may not become larger than a limit, as if there were no more room; it is lifted while mariadb-install waits.
"""

import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.mariadb import bootstrap_note
from tests.service import servers
from tests.service.replication_fixtures import replica_service_by_install, services
from tests.service.servers import wait_for
from tests.service.test_bootstrap_live import Source, backup, fingerprint, installing, state

__all__ = ["services"]

LIMIT = 17 << 20
"""More than what an empty database's files have, less than the table."""
INSTALL = f"""#!{sys.executable}
import functools
import resource
import subprocess
import sys

from slapos.recipe.erp5.mariadb import install

install.FIRST_PAUSE = install.LONGEST_PAUSE = 0.3
# Programs are told by an error, as on a full disk, and not by a signal.
subprocess.Popen = functools.partial(subprocess.Popen, restore_signals=False)
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, resource.RLIM_INFINITY))
sys.exit(install.main())
"""


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """A primary with a table of 24 MB, of which there are live copies and a dump."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    config = servers.make_config(folder, backup=backup(0))
    with servers.running(config) as service:
        servers.query(config, "CREATE TABLE erp5.t (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB)")
        servers.query(config, "INSERT INTO erp5.t (b) SELECT RANDOM_BYTES(1000) FROM erp5.seq_1_to_24000")
        servers.write_program(config.path("bin", "back-up"), "slapos.recipe.erp5.mariadb.backup")
        command = [config.path("bin", "back-up"), "--config", config.path("etc", "mariadb.json")]
        subprocess.run(command, check=True, timeout=servers.PATIENCE)
        source = Source(service)
        try:
            source.start()
            yield source
        finally:
            source.end()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        pytest.param("live", r"cannot unpack the live copy of test instance: .*t\.ibd.*File too large.*", id="live"),
        pytest.param(
            "dump",
            r"the client that loads \S+\.sql\.zst ended with status 1: a table has become full \(error 1114\), as on a"
            " disk without room: free disk space in {srv}",
            id="dump",
        ),
    ],
)
def test_it_is_made_once_there_is_room(source, make_partition, services, kind, sentence):
    url = source.url.replace("#live", f"#{kind}")
    replica = services(replica_service_by_install(make_partition, source.config, bootstrap_url=url))
    config = replica.config
    config.path("bin", "mariadb-install").write_text(INSTALL)
    replica.start()
    wait_for(lambda: replica.log().count(" error: ") >= 2, f"two failures; the log is:\n{replica.log()}")
    assert not config.data_directory.exists()
    error = state(config).error
    assert re.fullmatch(sentence.format(srv=re.escape(str(config.path("srv")))), error), error
    resource.prlimit(installing(replica).pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    replica.wait_until_it_answers()
    note = bootstrap_note.load(config.data_directory)
    assert note is not None and note.method == kind
    assert sorted(path.name for path in config.path("srv").glob("mariadb*")) == ["mariadb", "mariadb.lock"]
    wait_for(lambda: fingerprint(config) == fingerprint(source.config), "the primary's rows")
