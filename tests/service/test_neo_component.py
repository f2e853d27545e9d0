# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO as the release has it: its programs, its modules, its libraries, and a cluster of one storage.

Everything runs with an empty environment. The release is named by the variable ERP5_RELEASE.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import debian_tree, python_environment
from tests.service.servers import ROOT, free_port, wait_for

RELEASE = Path(os.environ.get("ERP5_RELEASE", "/ERP5_RELEASE/is/not/set"))
NEO = RELEASE / "parts/neoppod"
CLIENT = """
import sys, transaction
from ZODB.DB import DB
from neo.client.Storage import Storage
db = DB(Storage(master_nodes=sys.argv[1], name='test'))
connection = db.open()
if sys.argv[2:]:
    connection.root()['text'] = sys.argv[2]
    transaction.commit()
print(connection.root()['text'])
db.close()
"""
SETUP = "from setuptools import setup; setup(name='fake-neo', version='1', py_modules=['fake_neo'])\n"


def run(*command: object, **options: object) -> str:
    """What a program prints; it has to succeed."""
    result = subprocess.run(
        [str(word) for word in command], env={}, cwd="/", timeout=60, text=True, capture_output=True, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("program", ["neomaster", "neoadmin", "neostorage", "neoctl", "neolog"])
def test_each_program_prints_its_help(program):
    assert run(NEO / "bin" / program, "--help").startswith(f"usage: {program} ")


@pytest.mark.parametrize(
    "module",
    ["MySQLdb", "ZODB", "ctypes", "neo.client.Storage", "neo.storage.database.sqlite", "readline", "sqlite3", "ssl"],
)
def test_the_interpreter_imports(module):
    assert run(NEO / "bin/python", "-c", f"import sys, {module}; print(sys.version)").startswith("2.7.18 ")


def test_the_client_library_of_mysql_is_that_of_the_releases_mariadb():
    (adapter,) = NEO.glob("lib/python2.7/site-packages/MySQLdb/_mysql.so")
    (line,) = [line for line in run("/usr/bin/ldd", adapter).splitlines() if "libmariadb" in line]
    assert Path(line.split()[2]).resolve().is_relative_to((RELEASE / "parts/mariadb").resolve())


def test_every_library_is_inside_the_release():
    wrong = []
    for path in filter(debian_tree.is_elf, debian_tree.walk(NEO)):
        for name, place in re.findall(r"^\t(\S+) => (not found|\S+)", run("/usr/bin/ldd", path), re.MULTILINE):
            inside = Path(place).resolve().is_relative_to((RELEASE / "parts").resolve())
            if not inside and not debian_tree.HOST_LIBRARIES.fullmatch(name):
                wrong.append(f"{path}: {name} => {place}")
    assert wrong == []


def test_all_that_is_pinned_is_recorded_and_nothing_names_the_place_where_it_was_built():
    record = json.loads((NEO / "environment.json").read_text())
    pins = (RELEASE / "parts/python-pins/neo-py2.txt").read_text()
    pinned = set(re.findall(r"^(\S+==\S+)", pins, re.MULTILINE))
    tools = {line for line in record["installed"] if re.match("(pip|setuptools|wheel)==", line)}
    assert set(record["installed"]) - tools == pinned
    assert [path for path in (NEO / "bin").iterdir() if b"neoppod.new" in path.read_bytes()] == []


@pytest.mark.parametrize("script", ["neo_ask.py", "neo_master.py"])
def test_our_scripts_for_its_interpreter_are_in_the_release(script):
    path = RELEASE / "parts/neo-scripts" / script
    assert path.read_text() == (ROOT / "slapos/recipe/erp5/py2" / script).read_text()
    result = subprocess.run([NEO / "bin/python", path], env={}, text=True, capture_output=True)
    assert result.returncode == 2 and result.stderr.startswith(f"usage: {script} ")


@pytest.fixture
def cluster(partition: Path) -> Iterator[str]:
    """The master's address of a running cluster of one SQLite storage."""
    master, admin, storage = (f"127.0.0.1:{port}" for port in (free_port(), free_port(), free_port()))
    common = ("-c", "test", "-m", master)
    commands = [
        ("neomaster", *common, "-b", master, "-l", partition / "master.log", "-p", "1", "-r", "0", "-A", "1"),
        ("neoadmin", *common, "-b", admin, "-l", partition / "admin.log"),
        ("neostorage", *common, "-b", storage, "-l", partition / "s.log", "-a", "SQLite", "-d", partition / "s.sqlite"),
    ]
    with contextlib.ExitStack() as stack:
        nodes = [subprocess.Popen([NEO / "bin" / program, *map(str, words)], env={}) for program, *words in commands]
        for node in nodes:
            stack.callback(node.wait)
            stack.callback(node.kill)
        wait_for(lambda: is_running(admin, nodes), "the state RUNNING", 60)
        yield master


def is_running(admin: str, nodes: list[subprocess.Popen]) -> bool:
    assert all(node.poll() is None for node in nodes), "a node has ended"
    return ask(admin) == "RUNNING"


def ask(admin: str) -> str:
    """The cluster's state, or what was said in place of it."""
    command = [NEO / "bin/neoctl", "-a", admin, "print", "cluster"]
    result = subprocess.run(command, env={}, text=True, capture_output=True, timeout=60)
    return result.stdout.strip()


def test_a_cluster_keeps_an_object(cluster: str):
    assert run(NEO / "bin/python", "-c", CLIENT, cluster, "kept") == "kept\n"
    assert run(NEO / "bin/python", "-c", CLIENT, cluster) == "kept\n"


# The recipe with real programs


@pytest.fixture
def options(partition: Path) -> dict[str, str]:
    """Of an environment of this Python, with a package from a folder, as component/neoppod/python3.cfg asks for NEO."""
    source = partition / "source"
    source.mkdir()
    (source / "setup.py").write_text(SETUP)
    (source / "fake_neo.py").touch()
    return {
        "location": str(partition / "part"),
        "python": sys.executable,
        "python-version": "3",
        "source": str(source),
        "imports": "fake_neo",
        "compiler-candidates": "gcc gcc-12",
        "compiler-newest": "12",
        "virtualenv-pins": str(RELEASE / "parts/python-pins/virtualenv.txt"),
    }


def test_an_environment_of_python_3_from_a_folder_is_kept_until_something_changes(options: dict[str, str]):
    part = Path(options["location"])
    python_environment.Recipe({}, "part", options).install()
    assert "fake-neo @ file://" in "\n".join(json.loads((part / "environment.json").read_text())["installed"])
    made = part.stat().st_ino
    python_environment.Recipe({}, "part", options).update()
    assert part.stat().st_ino == made
    python_environment.Recipe({}, "part", {**options, "imports": "fake_neo json"}).install()
    assert part.stat().st_ino != made
    assert run(part / "bin/python", "-c", "import fake_neo, sys; print(sys.prefix)") == f"{part}\n"


def test_what_cannot_be_installed_leaves_what_was_there(options: dict[str, str]):
    part = Path(options["location"])
    part.mkdir()
    Path(options["source"], "setup.py").write_text("raise RuntimeError('no such luck')\n")
    with pytest.raises(zc.buildout.UserError, match="cannot install .*: .*no such luck.*All that was said is in "):
        python_environment.Recipe({}, "part", options).install()
    assert part.is_dir() and not Path(f"{part}.new").exists()


def test_an_interpreter_of_another_version_is_refused(options: dict[str, str]):
    with pytest.raises(zc.buildout.UserError) as refusal:
        python_environment.Recipe({}, "part", {**options, "python-version": "2.7"}).install()
    version = ".".join(map(str, sys.version_info[:3]))
    assert str(refusal.value) == (
        f"{sys.executable} is Python {version}, but section [part] needs Python 2.7 with ctypes, sqlite3, ssl: "
        "name another one in `executable` of the section that the option `python` refers to."
    )
