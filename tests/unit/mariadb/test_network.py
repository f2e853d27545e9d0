# SPDX-License-Identifier: GPL-2.0-or-later
"""When mariadb-control asks for a restart because of the network, without any process."""

import dataclasses

import pytest

from slapos.recipe.erp5.mariadb import network
from slapos.recipe.erp5.mariadb.config import Replication
from slapos.recipe.erp5.mariadb.network import Network
from tests.unit.mariadb import partition

REPLICATION = Replication("mysql://u:p@127.0.0.1:3306", "", "", 30, False, True)
LOUD, SILENT = ("mariadbd", "--read-only=ON"), ("mariadbd", "--read-only=ON", "--skip-networking")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """What is so: a silent replica on its socket alone, as process 7; and what was asked for."""

    class World:
        running = (7, SILENT)
        replica = True
        now = 1000.0
        asked: list[str] = []
        config = dataclasses.replace(partition.config(tmp_path / "p"), replication=REPLICATION)

        def ask_for(self, allow: bool) -> None:
            changed = dataclasses.replace(REPLICATION, allow_tcp_connections_on_replica=allow)
            self.network.follow(dataclasses.replace(self.config, replication=changed))

    world = World()
    world.asked = []
    monkeypatch.setattr(network, "server_options", lambda config: world.running)
    monkeypatch.setattr(network.status, "is_replica", lambda config: world.replica)
    monkeypatch.setattr(network.supervisor, "ask", lambda service, request: world.asked.append(request))
    monkeypatch.setattr(network.time, "monotonic", lambda: world.now)
    world.network = Network(world.config)
    return world


def test_nothing_is_asked_for_when_it_is_as_it_should_be(world):
    world.network.look()
    world.ask_for(False)
    world.network.look()
    assert world.asked == []


def test_changed_parameters_count_at_once_and_once(world, capsys):
    world.network.look()
    world.ask_for(True)
    world.network.look()
    world.network.look()
    assert world.asked == ["restart"]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.split(" ", 2)[2] == "restart the service mariadb: its network is to be on, and is off"
    world.running = (8, LOUD)
    world.network.look()
    assert world.asked == ["restart"]


def test_each_change_counts_however_soon(world):
    world.ask_for(True)
    world.network.look()
    world.running = (8, LOUD)
    world.network.look()
    world.ask_for(False)
    world.network.look()
    assert world.asked == ["restart", "restart"]


def test_a_server_that_is_not_up_yet_is_looked_at_later(world):
    world.ask_for(True)
    world.running = None
    world.network.look()
    assert world.asked == []
    world.running = (8, SILENT)
    world.network.look()
    assert world.asked == ["restart"]


def test_a_changed_role_counts_after_a_while_as_who_changes_it_restarts_it(world):
    world.network.look()
    world.replica = False
    world.network.look()
    world.now += network.SETTLING - 1
    world.network.look()
    assert world.asked == []
    world.now += 1
    world.network.look()
    assert world.asked == ["restart"]


def test_a_restart_that_does_not_help_is_not_tried_again_at_once(world):
    world.ask_for(True)
    world.network.look()
    for pid in range(8, 18):
        world.running = (pid, SILENT)
        world.now += network.SETTLING
        world.network.look()
    assert world.asked == ["restart"]
    world.now += network.PAUSE
    world.network.look()
    assert world.asked == ["restart"] * 2
