# SPDX-License-Identifier: GPL-2.0-or-later
"""A NEO cluster and a backup of it, both with the engine MySQL: copied, killed, restarted, enlarged, taken over."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.neo import Cluster, deploy, destroyed_at_the_end
from tests.cluster.node import Node, eventually
from tests.cluster.test_secrets import arguments_of_all_processes

POOL = {"engine": "MySQL", "innodb_buffer_pool_size": 32 << 20}


@pytest.fixture(scope="module")
def pair(node: Node) -> Iterator[tuple[Cluster, Cluster]]:
    """A cluster with an object in it, and a backup of it that has one."""
    with destroyed_at_the_end(node, "neo-mysql-copy", "neo-mysql"):
        main = deploy(node, "neo-mysql", storage_count=2, **POOL)
        main.wait_until_green()
        (tid,) = main.write(first="written before there was a backup")
        published = main.published
        upstream = {"upstream_cluster": published["neo-cluster"], "upstream_masters": published["neo-masters"]}
        copy = deploy(node, "neo-mysql-copy", **upstream, **POOL)
        copy.wait_until_copied(tid)
        copy.wait_until_green()
        yield main, copy


@pytest.fixture
def main(pair: tuple[Cluster, Cluster]) -> Cluster:
    return pair[0]


@pytest.fixture
def copy(pair: tuple[Cluster, Cluster]) -> Cluster:
    return pair[1]


def secrets_of(cluster: Cluster) -> set[bytes]:
    servers = [node.mysql for node in cluster.nodes() if node.mysql]
    found = {one.administrator_password for one in servers} | {word for one in servers for word in one.passwords}
    assert len(found) >= 2
    return {secret.encode() for secret in found}


def holds(path: Path, secrets: set[bytes]) -> bool:
    return path.is_file() and any(secret in path.read_bytes() for secret in secrets)


def test_a_backup_follows_and_the_promises_say_so(main: Cluster, copy: Cluster):
    (tid,) = main.write(second="written while there is one")
    copy.wait_until_copied(tid)
    assert copy.promise()[1].endswith("; it is a backup of neo-mysql, 0 s behind")
    (path,) = main.partitions()
    assert main.promises()[f"{path.name}/neo-node"] == (
        False,
        "neo-mariadb, neo-master, neo-admin, neo-storage-0 and neo-storage-1 run",
    )


def test_no_argument_log_or_readable_file_holds_a_password(node: Node, main: Cluster, copy: Cluster):
    for cluster in (main, copy):
        secrets = secrets_of(cluster)
        lines = [line for line in arguments_of_all_processes().values() if cluster.partitions()[0].name in line]
        assert any("neo-storage-0.cfg" in line for line in lines)
        assert [line for line in lines if any(secret.decode() in line for secret in secrets)] == []
        for path in (*cluster.partitions(), cluster.path):
            logs = [*path.glob("var/log/**/*"), *path.glob(".*.log*"), *(node.instances.parent / "var/log").glob("*")]
            assert [log for log in logs if holds(log, secrets)] == []
            assert all(stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 for one in path.rglob("*") if holds(one, secrets))
        (path,) = cluster.partitions()
        for name in ("etc/mariadb.cnf", "etc/neo-node.json", "etc/neo-storage-0.cfg"):
            assert stat.S_IMODE((path / name).stat().st_mode) == 0o600


def test_killed_processes_come_back(main: Cluster, copy: Cluster):
    (path,) = copy.partitions()
    copy.kill(*(f"{path.name}/{name}" for name in ("mariadb", "master", "storage-0")))
    eventually(lambda: not copy.promise()[0], "the backup follows again")
    (tid,) = main.write(third="written after processes were killed")
    copy.wait_until_copied(tid)
    failed, said = copy.promises()[f"{path.name}/neo-node"]
    assert failed
    assert "the service neo-mariadb was killed by SIGKILL at " in said
    copy.forget_deaths()
    copy.wait_until_green()


def test_a_restart_and_another_processing_change_nothing(node: Node, main: Cluster, copy: Cluster):
    for cluster, state in ((main, "RUNNING"), (copy, "BACKINGUP")):
        for path in cluster.partitions():
            assert node.slapos("supervisorctl", "restart", f"{path.name}:*").returncode == 0
        cluster.wait(state)
        cluster.wait_until_green()
        before = cluster.pids()
        cluster.process("--force")
        cluster.wait_until_green()
        assert cluster.pids() == before
        assert cluster.status().cluster_state == state
    assert main.read()["first"] == "written before there was a backup"


@pytest.mark.parametrize("engine", ["SQLite", None])
def test_another_engine_is_refused_in_one_sentence(node: Node, main: Cluster, engine: str | None):
    before, parameters = main.pids(), dict(main.parameters)
    others = {key: value for key, value in parameters.items() if key != "engine"}
    main.request(others | ({"engine": engine} if engine else {}))
    refused = node.slapos("instance", "--only-cp", ",".join(main.all()))
    assert refused.returncode != 0
    assert (
        "engine: it is SQLite, but the database was created with MySQL, which no parameter changes; give MySQL again,"
        " or request another instance." in refused.stdout
    )
    main.request(parameters)
    main.process()
    assert main.pids() == before
    main.wait_until_green()


def test_another_storage_gets_a_database_of_its_own(main: Cluster):
    main.request({**main.parameters, "storage-count": 3})
    main.process()
    main.process()  # the node's request has changed
    told = eventually(
        lambda: re.search(r"the storage (S\d+) has no part of the database yet", main.promise()[1]), "a new storage"
    )
    assert main.program("neoctl", "add", told[1]).returncode == 0
    assert main.program("neoctl", "tweak").returncode == 0
    eventually(lambda: not main.promise()[0], "the cluster is well with it")
    (node,) = main.nodes()
    assert [node.has_database(f"storage-{number}") for number in range(3)] == [True] * 3
    assert main.read()["third"] == "written after processes were killed"


def test_what_was_written_is_read_after_a_takeover_which_stays(node: Node, main: Cluster, copy: Cluster):
    (tid,) = main.write(last="written before the takeover")
    copy.wait_until_copied(tid)
    (path,) = main.partitions()
    assert node.slapos("supervisorctl", "stop", f"{path.name}:*").returncode == 0
    copy.wait("STARTING_BACKUP")
    copy.take_over()
    assert set(copy.read()) == {"first", "second", "third", "last"}
    copy.write(fourth="written after the takeover")
    (path,) = copy.partitions()
    assert node.slapos("supervisorctl", "restart", f"{path.name}:*").returncode == 0
    copy.process("--force")
    copy.wait("RUNNING")
    copy.wait_until_green()
    assert copy.read()["fourth"] == "written after the takeover"
