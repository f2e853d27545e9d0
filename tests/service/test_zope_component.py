# SPDX-License-Identifier: GPL-2.0-or-later
"""Zope as the release has it: its programs and modules, its libraries, ZMySQLDA on MariaDB, ZEO, and repozo.

Everything runs with an empty environment. The release is named by the variable ERP5_RELEASE.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.buildout import debian_tree
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.zope import zeo
from tests.service.servers import PATIENCE, free_port, part, release, wait_for, write_program

# Of the modules neoppod, the environment of Zope has the client alone.
CLIENT = """
import sys, transaction
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
db = DB(ClientStorage((sys.argv[1], int(sys.argv[2])), storage='root', wait_timeout=30))
connection = db.open()
if sys.argv[3:]:
    connection.root()['text'] = sys.argv[3]
    transaction.commit()
print(connection.root()['text'])
db.close()
"""
QUERY = """
import sys
from Products.ZMySQLDA.db import DB, DBPool
pool = DBPool(DB)(sys.argv[1] + ' testuser_0 test-secret-0')
print(pool.query('SELECT VERSION() AS version')[1][0][0])
"""


def zope(*names: str) -> Path:
    return Path(part("zope"), *names)


def run(*command: object, **options: object) -> str:
    """What a program prints; it has to succeed."""
    result = subprocess.run(
        [str(word) for word in command], env={}, cwd="/", timeout=PATIENCE, text=True, capture_output=True, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("program", ["repozo", "runwsgi", "runzeo"])
def test_each_program_prints_its_help(program: str):
    assert program in run(zope("bin", program), "--help")


@pytest.mark.parametrize(
    "module", ["MySQLdb", "Products.ZMySQLDA.DA", "ZEO", "Zope2.Startup.serve", "neo.client.Storage", "ssl", "waitress"]
)
def test_the_interpreter_imports(module: str):
    assert run(zope("bin/python"), "-c", f"import sys, {module}; print(sys.version)").startswith("2.7.18 ")


def test_every_library_is_inside_the_release():
    wrong = []
    for path in filter(debian_tree.is_elf, debian_tree.walk(zope())):
        for name, place in re.findall(r"^\t(\S+) => (not found|\S+)", run("/usr/bin/ldd", path), re.MULTILINE):
            inside = Path(place).resolve().is_relative_to((release() / "parts").resolve())
            if not inside and not debian_tree.HOST_LIBRARIES.fullmatch(name):
                wrong.append(f"{path}: {name} => {place}")
    assert wrong == []


def test_all_that_is_pinned_is_installed_and_nothing_names_the_place_where_it_was_built():
    installed = set(json.loads(zope("environment.json").read_text())["installed"])
    pins = Path(part("python-pins"), "zope-py2.txt").read_text()
    tools = {line for line in installed if re.match("(pip|setuptools|wheel)==", line)}
    pinned = {line.replace("_", "-") for line in re.findall(r"^(\S+==\S+)", pins, re.MULTILINE)}
    assert {line.replace("_", "-") for line in installed - tools} == pinned
    assert [path for path in zope("bin").iterdir() if b"zope.new" in path.read_bytes()] == []


def test_client_and_server_of_neo_are_of_the_same_version():
    found = [json.loads(Path(part(name), "environment.json").read_text())["installed"] for name in ("zope", "neoppod")]
    neo, zodb = ([[line for line in each if line.startswith(name)] for each in found] for name in ("neoppod", "ZODB=="))
    assert neo[0] == neo[1] and zodb[0] == zodb[1] and neo[0] and zodb[0]


def test_zmysqlda_asks_our_mariadb(primary: Config):
    (database,) = primary.test_databases
    where = f"{database.name}@{primary.network.ipv4}:{primary.network.port}"
    assert "MariaDB" in run(zope("bin/python"), "-c", QUERY, where)


# ZEO, and repozo


@pytest.fixture
def server(partition: Path) -> Iterator[zeo.Config]:
    """A ZEO server that runs, or is about to."""
    (partition / "etc").mkdir()
    (partition / "bin").mkdir()
    config = zeo.Config(str(partition), str(zope("bin/runzeo")), "127.0.0.1", free_port(), ("root", "other"), 100)
    shapes.save(partition / "etc/zeo.json", config)
    write_program(partition / "bin/zeo-start", "slapos.recipe.erp5.zope.zeo")
    with subprocess.Popen([partition / "bin/zeo-start", "--config", partition / "etc/zeo.json"]) as process:
        yield config
        process.terminate()
        assert process.wait(PATIENCE) in (0, -15)


def test_a_zeo_server_keeps_an_object_and_repozo_backs_it_up(server: zeo.Config, partition: Path):
    client = (zope("bin/python"), "-c", CLIENT, server.host, server.port)
    assert run(*client, "kept") == "kept\n"
    assert run(*client) == "kept\n"
    database, copies, again = server.storage("root"), partition / "copies", partition / "again.fs"
    copies.mkdir()
    run(zope("bin/repozo"), "-B", "-z", "-r", copies, "-f", database)
    assert run(*client, "later") == "later\n"
    # Repozo names backups after seconds, and ignores a delta that has the name of the backup that it continues.
    first = int(time.time())
    wait_for(lambda: int(time.time()) > first, "the next second")
    run(zope("bin/repozo"), "-B", "-z", "-r", copies, "-f", database)
    run(zope("bin/repozo"), "-R", "-r", copies, "-o", again)
    assert again.read_bytes() == database.read_bytes()
    assert len(list(copies.glob("*.fsz"))) == 1 and len(list(copies.glob("*.deltafsz"))) == 1


def test_the_log_of_a_zeo_server_is_in_the_partition(server: zeo.Config, partition: Path):
    log = partition / "var/log/zeo.log"
    wait_for(lambda: log.exists() and "listening on" in log.read_text(), "the server's log")
    assert server.storage("other").exists()
