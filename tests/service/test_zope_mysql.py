# SPDX-License-Identifier: GPL-2.0-or-later
"""Zope's connections to real servers of MariaDB: those that the parameters name, whatever its database says."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slapos.recipe.erp5.buildout import mariadb_accounts
from slapos.recipe.erp5.mariadb.config import Config, Network
from slapos.recipe.erp5.zope.standby_decide import SERVING
from tests.service import servers
from tests.service.neo_fixtures import Cluster, Clusters
from tests.service.servers import PATIENCE, free_port, part, wait_for
from tests.service.zope_fixtures import SCRIPTS, Zopes, make_config
from tests.zope_pages import Page

PASSWORD = "secret=%41;'é"
"""Of the database erp5 here: all that a string can have."""


@pytest.fixture
def cluster(clusters: Clusters) -> Cluster:
    """One that runs."""
    made = clusters("main")
    made.start()
    made.wait("RUNNING")
    return made


@pytest.fixture
def zopes(partition: Path, cluster: Cluster) -> Iterator[Callable[..., Zopes]]:
    """A function that starts the Zopes of one more partition on the cluster; nothing of them is left afterwards."""
    made: list[Zopes] = []

    def make(*urls: str, families: tuple[str, ...] = ("web",), **changes: Any) -> Zopes:
        folder = partition / f"p{len(made)}"
        made.append(Zopes(make_config(folder, cluster, families, mysql_urls=urls, **changes)))
        made[-1].start()
        for zope in made[-1].config.zopes:
            made[-1].wait(SERVING, zope.name)
        return made[-1]

    yield make
    for one in made:
        one.kill_all()


def url(server: Config, name: str = "erp5_test_0", host: str = "") -> str:
    """As an instance publishes it."""
    entry = next(one for one in server.databases + server.test_databases if one.name == name)
    return mariadb_accounts.url(dataclasses.asdict(entry), host or server.network.ipv4, server.network.port)


def ask(zopes: Zopes, query: str, connection: str = "mysql_0", name: str = "zope-0") -> Page:
    return zopes.get(f"/{connection}/manage_test", name, query=query)


def answer(zopes: Zopes, query: str, connection: str = "mysql_0", name: str = "zope-0") -> str:
    """The one value that a query has."""
    page = ask(zopes, query, connection, name)
    assert page.status == 200, page
    (value,) = re.findall(r"<td[^>]*>\s*(.*?)\s*</td>", page.body, re.DOTALL)
    return value


def event_log(zopes: Zopes, name: str = "zope-0") -> str:
    return zopes.config.path("var", "log", f"{name}-event.log").read_text()


# ---- what it is used for


def test_each_url_is_a_connection_that_speaks_utf8mb4(primary: Config, zopes: Callable[..., Zopes], make_partition):
    made = zopes(url(primary), url(primary))
    for name in ("mysql_0", "mysql_1"):
        variables = "@@character_set_client, ' ', @@character_set_connection, ' ', @@character_set_results"
        found = answer(made, f"SELECT CONCAT(DATABASE(), ' ', CURRENT_USER(), ' ', {variables}) AS found", name)
        assert found == "erp5_test_0 testuser_0@%.%.%.% utf8mb4 utf8mb4 utf8mb4"
    assert answer(made, "SELECT CONCAT(HEX('é\N{GRINNING FACE}'), 'é\N{GRINNING FACE}') AS found") == (
        "C3A9F09F9880é\N{GRINNING FACE}"
    )


def test_by_ipv6_with_tls_and_a_password_of_all_that_can_be_told(make_partition, zopes: Callable[..., Zopes]):
    ports = (free_port() for _ in range(4))
    server = make_partition(network=Network("127.0.0.1", "::1", *ports))
    (database,) = server.databases
    server = dataclasses.replace(server, databases=(dataclasses.replace(database, password=PASSWORD),))
    servers.write_config(server)
    with servers.running(server):
        made = zopes(url(server, "erp5", "::1"), url(server, "erp5"))
        cipher = "SELECT variable_value <> '' AS found FROM information_schema.session_status WHERE variable_name = "
        assert [answer(made, cipher + "'Ssl_cipher'", name) for name in ("mysql_0", "mysql_1")] == ["1", "0"]
        assert answer(made, "SELECT CURRENT_USER() AS found") == "erp5_user@%:%"


# ---- what the database has


def test_the_server_of_the_parameters_replaces_the_one_that_the_database_names(
    primary: Config, zopes: Callable[..., Zopes], cluster: Cluster
):
    """As after a takeover: the database came from another site. And what somebody changed besides stays."""
    first = zopes("mysql://somebody:else@127.0.0.1:1/gone")
    first.get("/mysql_0/manage_edit", title="of mine", connection_string="gone@127.0.0.1:1 somebody else")
    assert ask(first, "SELECT 1").status >= 400
    first.end()
    made = zopes(url(primary))
    assert answer(made, "SELECT DATABASE() AS found") == "erp5_test_0"
    assert "mysql_0: the parameters name another server or account than was kept" in event_log(made)
    assert 'value="of mine"' in made.get("/mysql_0/manage_properties", unused="").body
    made.end()
    before = cluster.status().last_tid
    again = zopes(url(primary), families=("web", "web"))
    assert answer(again, "SELECT DATABASE() AS found", name="zope-1") == "erp5_test_0"
    again.end()
    assert cluster.status().last_tid == before
    assert "mysql_0" not in event_log(again)


def test_a_zope_that_runs_uses_the_server_that_another_one_was_told_of(primary: Config, zopes: Callable[..., Zopes]):
    first = zopes("mysql://somebody:else@127.0.0.1:1/gone")
    assert ask(first, "SELECT 1").status >= 400
    zopes(url(primary))
    wait_for(lambda: ask(first, "SELECT 1").status == 200, "the other server's answer")
    assert answer(first, "SELECT DATABASE() AS found") == "erp5_test_0"


def test_another_object_of_that_name_is_left_alone(primary: Config, zopes: Callable[..., Zopes]):
    first = zopes()
    made = first.get("/manage_addProduct/OFSP/manage_addDTMLMethod", id="mysql_0", file="mine")
    assert made.status in (200, 302)
    first.end()
    second = zopes(url(primary), url(primary))
    assert second.get("/mysql_0").body == "mine"
    assert answer(second, "SELECT DATABASE() AS found", "mysql_1") == "erp5_test_0"
    assert "mysql_0 is not a Z MySQL Database Connection but a DTML Method, and left alone" in event_log(second)


def test_zopes_that_start_together(primary: Config, zopes: Callable[..., Zopes]):
    zopes().end()
    made = zopes(url(primary), url(primary), families=("web",) * 3)
    for name in ("zope-0", "zope-1", "zope-2"):
        assert answer(made, "SELECT DATABASE() AS found", "mysql_1", name) == "erp5_test_0"
        assert made.zope(name).ends == ()


CONFLICTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import transaction, zope_serve, Zope2
from OFS.Application import Application
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

db = DB(MappingStorage())
def root():
    return db.open().root()
first = root()
first['Application'] = Application()
transaction.commit()
Zope2.app = lambda: root()['Application']
put, others = zope_serve.put, [int(sys.argv[2])]
def put_while_others_write(application, name, string):
    done = put(application, name, string)
    if done and others[0]:
        others[0] -= 1
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        connection.root()['Application'].title = str(others[0])
        manager.commit()
        connection.close()
    return done
zope_serve.put = put_while_others_write
zope_serve.CONFLICTS = 4
zope_serve.connect_mysql(['d@h:1 u p'])
first._p_jar.sync()
print(first['Application'].mysql_0.connection_string)
"""


@pytest.mark.parametrize("others, status", [(0, 0), (3, 0), (4, 1)])
def test_others_who_write_at_the_same_time(others: int, status: int):
    command = [f"{part('zope')}/bin/python", "-c", CONFLICTS, str(SCRIPTS), str(others)]
    result = subprocess.run(command, env={}, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == status, result.stderr
    assert result.stdout == ("" if status else "d@h:1 u p\n")
    assert ("ConflictError" in result.stderr) == bool(status)


# ---- servers that are down, and secrets


def test_a_server_that_is_down_holds_nothing_up_and_is_used_once_it_is_there(
    complete: servers.Service, zopes: Callable[..., Zopes]
):
    made = zopes(url(complete.config))
    made.write("served meanwhile")
    page = ask(made, "SELECT 1")
    assert page.status >= 400 and "test-secret-0" not in page.body
    complete.run()
    assert answer(made, "SELECT DATABASE() AS found") == "erp5_test_0"
    complete.restart()
    wait_for(lambda: ask(made, "SELECT 1").status == 200, "an answer of the server that was restarted")
    assert made.zope().ends == ()


def test_passwords_are_in_no_log_argument_or_environment(primary: Config, zopes: Callable[..., Zopes]):
    made = zopes(url(primary), "mysql://user:hidden-0123@127.0.0.1:1/gone")
    assert answer(made, "SELECT 1 AS found") == "1"
    process = Path(f"/proc/{made.zope().child_pid}")
    seen = (process / "cmdline").read_text() + (process / "environ").read_text() + ask(made, "x", "mysql_1").body
    logs = [path for path in made.config.path("var", "log").iterdir() if path.is_file()]
    seen += "".join(path.read_text(errors="replace") for path in logs)
    assert [word for word in ("hidden-0123", "test-secret-0") if word in seen] == []
    kept = made.config.home("zope-0") / "etc" / "mysql.json"
    assert kept.stat().st_mode & 0o777 == 0o600 and len(json.loads(kept.read_text())) == 2
