# SPDX-License-Identifier: GPL-2.0-or-later
"""Zope as the release has it: its programs and modules, its libraries, and ZMySQLDA on MariaDB.

Everything runs with an empty environment. The release is named by the variable ERP5_RELEASE.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from slapos.recipe.erp5.buildout import debian_tree
from slapos.recipe.erp5.mariadb.config import Config
from tests.service.servers import PATIENCE, part, release

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
