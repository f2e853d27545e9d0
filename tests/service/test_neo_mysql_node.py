# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes of NEO whose storages have the engine MySQL, with real servers below real supervisors."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervisor, times
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.neo import mysql, status, verdict
from slapos.recipe.erp5.neo.config import MySQL
from slapos.recipe.erp5.neo.verdict import Verdict
from tests.service.neo_role_fixtures import NodePartition, Site, Sites
from tests.service.servers import wait_for


def server(node: NodePartition) -> MySQL:
    assert node.mysql
    return node.mysql


def judge(node: NodePartition) -> Verdict:
    """What the promise neo-node says."""
    return verdict.node(status.node(node.config, times.now()))


def assert_server_is_well(node: NodePartition) -> None:
    assert [said for said in judge(node).sentences if "MariaDB" in said or "service neo-mariadb" in said] == []


def kill(node: NodePartition, name: str) -> None:
    """At once; its supervisor starts it again."""
    pid = node.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: node.pid(name) not in (0, pid), f"{name} again")


def secrets_of(site: Site) -> set[str]:
    found = {server(node).administrator_password for node in site.nodes}
    return found | {password.split()[-1] for node in site.nodes for password in server(node).passwords}


def command_lines() -> str:
    """Of all processes here."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def assert_no_secret_is_seen(site: Site) -> None:
    lines = command_lines()
    folders = [site.folder, *(node.folder for node in site.nodes)]
    logs = [path for folder in folders for path in (folder / "var/log").rglob("*") if path.is_file()]
    said = "\n".join(path.read_bytes().decode(errors="replace") for path in logs)
    assert "storage_0" in said and "neo-storage-0.cfg" in lines
    assert [one for one in secrets_of(site) if one in lines or one in said] == []
    for node in site.nodes:
        holders = [path for path in node.folder.rglob("*") if path.is_file() and holds(path, secrets_of(site))]
        assert {"mariadb.cnf", "neo-storage-0.cfg"} <= {path.name for path in holders}
        assert [path for path in holders if path.stat().st_mode & 0o077] == []


def holds(path: Path, secrets: set[str]) -> bool:
    content = path.read_bytes()
    return any(secret.encode() in content for secret in secrets)


def test_a_backup_follows_is_taken_over_and_the_old_primary_is_reset(sites: Sites):
    old = sites("old", engine="MySQL", storages=2).start()
    old.wait("RUNNING")
    old.write(before="kept")
    assert_server_is_well(old.nodes[0])
    new = sites("new", old, engine="MySQL").start()
    new.wait("BACKINGUP")
    new.wait_for_all_of(old)
    assert new.stored() == old.stored() != []
    for site in (old, new):
        assert_no_secret_is_seen(site)
    new.acted("takeover", control_url=old.url)
    new.wait("RUNNING")
    new.write(after="new")
    wait_for(lambda: new.state.fence_pending is None, "the old primary to be told")

    # As it is, and after something was written there: reset.
    old.acted("rejoin")
    old.wait_for_all_of(new)
    assert old.nodes[0].kept() == []
    old.acted("takeover", control_url=new.url, force=True)
    old.wait("RUNNING")
    assert old.read() == {"before": "kept", "after": "new"}
    (foreign,) = new.stored()[-1:]
    said = new.acted("rejoin", reset=True)
    assert said == (
        "this cluster is a backup of old, and copies all of it anew; the old storages are kept on the nodes"
    )
    (kept,) = new.nodes[0].kept()
    assert kept.startswith("mariadb.replaced-")
    assert (new.nodes[0].folder / "srv" / kept / "storage_0/config.frm").exists()
    new.wait_for_all_of(old)
    assert foreign in new.stored()
    assert_server_is_well(new.nodes[0])


@pytest.fixture
def site(sites: Sites) -> Site:
    """A running cluster of one node with one storage and an object in it."""
    found = sites("main", engine="MySQL").start()
    found.wait("RUNNING")
    found.write(one=1)
    return found


def test_what_dies_comes_back(site: Site):
    (node,) = site.nodes
    kill(node, "mariadb")
    wait_for(lambda: not status.node(node.config, times.now()).silent, "the server")

    def written() -> bool:
        try:
            site.write(two=2)
        except AssertionError:
            return False
        return True

    wait_for(written, "a write")
    kill(node, "storage-0")
    site.wait("RUNNING")
    assert site.read() == {"one": 1, "two": 2}
    (said, *_) = judge(node).sentences
    assert said.startswith("the service neo-mariadb was killed by SIGKILL at ")
    supervisor.stop(node.config.service("mariadb"))
    sentences = judge(node).sentences
    assert sentences[0].startswith("cannot connect to MariaDB: ")
    assert any(said.startswith("the service neo-mariadb was stopped at ") for said in sentences)
    supervisor.start(node.config.service("mariadb"))


def test_a_storage_that_comes_later_gets_a_database_and_what_is_lost_is_not_made_again(site: Site):
    (node,) = site.nodes
    passwords = (*server(node).passwords, "another")
    node.mysql = dataclasses.replace(server(node), passwords=passwords)
    shapes.save(node.json, dataclasses.replace(node.config, storages=2, mysql=node.mysql))
    node.start_service("storage-1")
    wait_for(lambda: any(one.state == "PENDING" for one in site.status().nodes), "the new storage")
    with sql.connect(server(node).defaults_file, server(node).socket) as connection:
        assert {"storage_0", "storage_1"} <= sql.databases(connection)
        assert {account.user for account in sql.accounts(connection)} == {
            *("mariadb.sys", "root", "slapos_administrator"),
            *("storage_0", "storage_1"),
        }

    supervisor.stop(node.config.service("mariadb"))
    data = server(node).data_directory
    data.rename(data.with_name("away"))
    for name in ("storage-0", "mariadb"):
        supervisor.ask(node.config.service(name), "start")
        supervisor.ask(node.config.service(name), "restart")
    for name, path in (("storage-0", data / "storage_0"), ("mariadb", data)):
        log = node.folder / f"var/log/service-{name}.log"
        wait_for(lambda log=log, path=path: f"error: {path} is not there, expected" in log.read_text(), "a refusal")
    assert f"{data}/storage_0 is not there, expected" in "".join(judge(node).sentences)
    assert not data.exists()
    data.with_name("away").rename(data)
    for name in ("mariadb", "storage-0"):
        supervisor.start(node.config.service(name))
    site.wait("RUNNING")
    assert site.read() == {"one": 1}


def test_an_account_with_another_password_is_mended_and_old_data_is_upgraded_or_refused(site: Site):
    (node,) = site.nodes
    with sql.connect(server(node).defaults_file, server(node).socket) as connection:
        sql.execute(connection, "ALTER USER storage_0@localhost IDENTIFIED BY 'other'")
    kill(node, "storage-0")
    site.wait("RUNNING")
    assert site.read() == {"one": 1}

    mark = server(node).data_directory / "mysql_upgrade_info"
    version = mark.read_text()
    supervisor.stop(node.config.service("mariadb"))
    mark.write_text("10.6.1-MariaDB")
    mysql.prepare(server(node))
    assert mark.read_text().split("-")[0] == version.split("-")[0]
    mark.write_text("99.1.1-MariaDB")
    with pytest.raises(mysql.ServerError, match="the data directory is of MariaDB 99.1.1-MariaDB and this is 10.11"):
        mysql.prepare(server(node))
    mark.write_text(version)
    supervisor.start(node.config.service("mariadb"))
