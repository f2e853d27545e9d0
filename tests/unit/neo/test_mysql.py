# SPDX-License-Identifier: GPL-2.0-or-later
"""Storages with the engine MySQL, without a server: how they are started, what is made once, and what is put aside."""

import configparser

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Busy, Refused
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.neo import aside, mysql, start
from tests.unit.neo import partition

ID = "20261122T010000Z"
STORAGES = ("storage-0", "storage-1")
ACCOUNT = Account("storage_0", "localhost")


@pytest.fixture
def config(tmp_path):
    return partition.node(tmp_path, mysql=partition.mysql(tmp_path))


def make(config, name):
    """What a server has once a storage's database was made."""
    config.database(name).mkdir(parents=True)
    (config.database(name) / "config.frm").touch()


def test_the_password_is_in_a_file_alone(config, tmp_path):
    command = start.storage_command(config, "storage-0")
    assert command[-6:] == ("--adapter", "MySQL", "--file", f"{tmp_path}/etc/neo-storage-0.cfg", "--wait", "-1")
    assert not any(password in word for word in command for password in config.mysql.passwords)
    assert "first 100%" not in repr(config) and "administrator's" not in repr(config)
    parser = configparser.ConfigParser()
    parser.read_string(mysql.storage_text(config.mysql, "storage-0", "first 100%"))
    assert parser["storage"]["database"] == f"storage_0:first 100%@storage_0{tmp_path}/var/run/mariadb.sock"


def test_a_folder_without_tables_is_no_database(config):
    config.database("storage-0").mkdir(parents=True)
    assert start.is_to_be_made(config, "storage-0")
    make(config, "storage-1")
    assert not start.is_to_be_made(config, "storage-1")


def test_a_database_that_is_gone_is_not_made_again(config, tmp_path):
    config.set_up("storage-0").touch()
    with pytest.raises(Refused) as caught:
        start.is_to_be_made(config, "storage-0")
    assert str(caught.value) == (
        f"{tmp_path}/srv/mariadb/storage_0 is not there, expected the database that was made once: bring it back; or,"
        f" to have an empty one in its place, which the cluster then fills, remove {tmp_path}/srv/neo/storage-0.set-up"
    )


def test_neither_is_a_server(config, tmp_path):
    for name in STORAGES:
        config.set_up(name).touch()
    with pytest.raises(Refused) as caught:
        mysql.create(config, config.mysql, tmp_path)
    marks = " ".join(f"{tmp_path}/srv/neo/{name}.set-up" for name in STORAGES)
    assert str(caught.value) == (
        f"{tmp_path}/srv/mariadb is not there, expected the one in which the storages' databases were made: bring it"
        f" back; or, to have empty ones in their place, which the cluster then fills, remove {marks}"
    )


def test_the_server_is_among_the_services_and_none_of_neos_processes(config, tmp_path):
    assert config.services == ("mariadb", "master", "admin", *STORAGES)
    assert config.names == partition.node(tmp_path).services == ("master", "admin", *STORAGES)
    assert config.service("mariadb").name == "neo-mariadb"


def test_all_of_the_server_is_put_aside_once(config, tmp_path):
    for name in STORAGES:
        make(config, name)
        config.set_up(name).touch()
    kept = tmp_path / f"srv/mariadb.replaced-{ID}"
    assert aside.put(config, STORAGES, ID) == [kept]
    assert (kept / "storage_1/config.frm").exists() and not config.mysql.data_directory.exists()
    assert not any(config.set_up(name).exists() for name in STORAGES)
    make(config, "storage-0")  # by the next start
    assert aside.put(config, STORAGES, ID) == [kept]
    assert config.has_database("storage-0") and not config.has_database("storage-1")


def test_a_database_with_which_a_server_works_stays(config):
    make(config, "storage-0")
    busy = "srv/mariadb, expected it to have ended: try it again"
    with process.lock(f"{config.mysql.data_directory}.lock", ""), pytest.raises(Busy, match=busy):
        aside.put(config, STORAGES, ID)
    assert config.has_database("storage-0")


class Server:
    """What a server has, and what was done to it."""

    def __init__(self, monkeypatch, databases=(), hashed="", grants=()):
        self.done = []
        found = {"databases": frozenset(databases), "database_grants": frozenset(grants), "native_password": hashed}
        for name, value in found.items():
            monkeypatch.setattr(sql, name, lambda *_, value=value: value)
        for name in ("create_database", "replace_account", "grant_database"):
            monkeypatch.setattr(sql, name, lambda *arguments, name=name: self.done.append((name, *arguments[1:])))


@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_there_already_stays_as_it_is(monkeypatch, is_new):
    hashed = sql.password_hash("secret")
    server = Server(monkeypatch, ["storage_0"], hashed, [("storage_0", ACCOUNT)])
    mysql.provide(server, "storage_0", "secret", is_new)
    assert server.done == []


def test_a_new_storage_gets_a_database_and_an_account_with_rights_on_that_alone(monkeypatch):
    server = Server(monkeypatch)
    mysql.provide(server, "storage_0", "secret", True)
    assert server.done == [
        ("create_database", "storage_0", "utf8mb4", "utf8mb4_bin"),
        ("replace_account", ACCOUNT, sql.password_hash("secret")),
        ("grant_database", "storage_0", ACCOUNT),
    ]


def test_another_password_is_mended_and_a_lost_database_is_not(monkeypatch):
    server = Server(monkeypatch, hashed="*OTHER")
    mysql.provide(server, "storage_0", "secret", False)
    assert [name for name, *_ in server.done] == ["replace_account", "grant_database"]
