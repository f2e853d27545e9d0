# SPDX-License-Identifier: GPL-2.0-or-later
"""When Mroonga is installed, and when it is left alone, without a server."""

import dataclasses
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import mroonga
from slapos.recipe.erp5.mariadb.config import Config
from tests.unit.mariadb import partition

SCRIPT = """INSTALL PLUGIN x SONAME 'x';

DROP FUNCTION IF EXISTS one;
CREATE FUNCTION one RETURNS INTEGER
  SONAME 'x.so';
create aggregate function if not exists `two` RETURNS STRING SONAME 'x.so';
"""


@pytest.fixture
def config(tmp_path) -> Config:
    config = partition.config(tmp_path / "p")
    software = dataclasses.replace(config.software, mariadb=str(tmp_path / "part"))
    return dataclasses.replace(config, software=software, mroonga=True)


@pytest.fixture
def script(config) -> Path:
    path = Path(config.software.mariadb, "usr/share/mysql/mroonga/install.sql")
    path.parent.mkdir(parents=True)
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def server(monkeypatch):
    """Answers as a server with the engine and `present` functions; `done` is what else it was told."""

    class Server:
        active = True
        present: tuple[str, ...] = ()

        def __init__(self) -> None:
            self.done: list[str] = []

        def execute(self, connection, statement, values=()):
            if statement == "SELECT name FROM mysql.func":
                return [(name,) for name in self.present]
            self.done.append(statement)
            return []

    server = Server()
    monkeypatch.setattr(mroonga.sql, "has_mroonga", lambda connection: server.active)
    monkeypatch.setattr(mroonga.sql, "execute", server.execute)
    return server


def test_the_functions_of_a_script():
    assert mroonga.functions(SCRIPT) == {"one", "two"}


@pytest.mark.parametrize(
    ("active", "present", "installs"),
    [
        (False, (), True),
        (False, ("one", "two"), True),
        (True, (), True),
        (True, ("one", "another"), True),
        (True, ("one", "two", "another"), False),
    ],
)
def test_what_is_absent_is_installed_unlogged(config, script, server, active, present, installs):
    server.active, server.present = active, present
    mroonga.install(config, None)
    assert bool(server.done) is installs
    if installs:
        assert server.done[0] == "SET SESSION sql_log_bin = 0"
        assert server.done[1] == "INSTALL PLUGIN x SONAME 'x'"
        assert server.done[-1] == "SET SESSION sql_log_bin = 1"


def test_without_the_parameter_nothing_is_installed(config, script, server):
    server.active = False
    mroonga.install(dataclasses.replace(config, mroonga=False), None)
    assert server.done == []


def test_an_engine_that_came_without_a_script_is_left_alone(config, server):
    mroonga.install(config, None)
    assert server.done == []
    server.active = False
    with pytest.raises(ConfigurationError, match="^mroonga is true, and this MariaDB has no /.*: set it to false, or "):
        mroonga.install(config, None)
