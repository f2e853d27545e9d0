# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO's storages in the release's MariaDB: what that needs, and that a backup and a takeover work so too."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from slapos.recipe.erp5.mariadb import private_server
from tests.service.neo_fixtures import Clusters
from tests.service.servers import part, wait_for

CNF = f"""
[mariadbd]
basedir = {part("mariadb")}/usr
character-set-server = utf8mb4
collation-server = utf8mb4_general_ci
innodb-buffer-pool-size = 32M
skip-log-bin
"""
"""What NEO is indifferent to."""
NEEDED = "max-allowed-packet = 32769k\n"
PASSWORD = "it's 100% secret"
NAMES = ("main_0", "copy_0", "copy_1")


def install(folder: Path, cnf: str) -> Path:
    """A fresh data directory with a server's configuration beside it; returns that."""
    data, defaults = folder / "mysql", folder / "mysql.cnf"
    defaults.write_text(cnf)
    program = part("mariadb") + "/bin/mariadb-install-db"
    command = [program, f"--defaults-file={defaults}", f"--datadir={data}", "--cross-bootstrap"]
    command += [f"--basedir={part('mariadb')}/usr", "--auth-root-authentication-method=normal"]
    subprocess.run(command, check=True, capture_output=True, env={})
    return defaults


def accounts() -> str:
    """An account and a database for each storage; it needs nothing else."""
    password = PASSWORD.replace("'", "''")
    statements = []
    for name in NAMES:
        statements += [
            f"CREATE DATABASE {name};",
            f"CREATE USER {name}@localhost IDENTIFIED BY '{password}';",
            f"GRANT ALL ON {name}.* TO {name}@localhost;",
        ]
    return "\n".join(statements)


@pytest.fixture
def server(partition: Path) -> Path:
    """The folder of a server with accounts and databases for three storages, not running."""
    folder = partition / "sql"
    folder.mkdir()
    install(folder, CNF + NEEDED)
    with running(folder, accounts()):
        pass
    return folder


def running(folder: Path, init_sql: str = "") -> contextlib.AbstractContextManager[Path]:
    """The server; yields its socket."""
    return private_server.serving(part("mariadb"), folder / "mysql.cnf", folder / "mysql", folder, init_sql=init_sql)


def database(socket: Path, name: str) -> str:
    return f"{name}:{PASSWORD}@{name}{socket}"


def test_a_backup_follows_and_takes_over(clusters: Clusters, server: Path):
    """A large object goes there and back too, whatever the server's character set."""
    with running(server) as socket:
        main = clusters("main", databases=[database(socket, "main_0")])
        main.start()
        main.wait("RUNNING")
        main.write(before="kept")
        digest = main.ask_client("fill", size=30 << 20)
        copies = [database(socket, name) for name in ("copy_0", "copy_1")]
        copy = clusters("copy", upstream=main, storages=2, databases=copies)
        with copy.hostile_clients() as attempts:
            copy.start()
            copy.wait("BACKINGUP")
            copy.wait_for_tid(main.status().last_tid or 0)
            wait_for(lambda: len(attempts.all()) > 20, "attempts")
        assert attempts.written() == 0
        assert copy.ask_client("digest") == digest
        main.kill()
        copy.wait("STARTING_BACKUP")
        with copy.asker() as asker:
            asker.set_state("STOPPING_BACKUP")
        copy.wait("RUNNING")
        copy.write(own=1)
        copy.kill()
        copy.start()
        copy.wait("RUNNING")
        assert copy.ask_client("digest") == digest
        clusters.end()


def test_storages_wait_for_their_server_and_outlive_its_restart_when_they_are_supervised(
    clusters: Clusters, server: Path
):
    """One that is about to commit ends; another connects again."""
    cluster = clusters("main", databases=[database(server / "private-mysql/socket", "main_0")])
    cluster.start()
    cluster.wait("RECOVERING")
    with running(server):
        cluster.wait("RUNNING")
        cluster.write(one=1)
    with running(server):

        def written() -> bool:
            cluster.revive()
            command = cluster.client("write", things=[("two", 2)])
            with contextlib.suppress(subprocess.TimeoutExpired):
                return subprocess.run(command, env={}, capture_output=True, timeout=10).returncode == 0
            return False

        wait_for(written, "a write")
        assert cluster.read() == {"one": 1, "two": 2}
        clusters.end()


def test_a_server_with_its_own_default_is_refused_in_one_sentence(clusters: Clusters, partition: Path):
    """16 MiB."""
    folder = partition / "sql"
    folder.mkdir()
    install(folder, CNF)
    with running(folder, accounts()) as socket:
        cluster = clusters("main", databases=[database(socket, "main_0")])
        cluster.start("storage-0")
        assert cluster.processes["storage-0"].wait(60)
    sentence = "Global variable 'max_allowed_packet' is too small. Minimal value must be 32769k."
    assert sentence in cluster.log("storage-0")
