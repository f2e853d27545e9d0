# SPDX-License-Identifier: GPL-2.0-or-later
"""What the on_creation hook does with a new database of either kind, without any server."""

import dataclasses

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import bootstrap_note, create, private_server
from slapos.recipe.erp5.mariadb.bootstrap_note import Bootstrap
from slapos.recipe.erp5.mariadb.config import Replication
from tests.unit.mariadb import partition

NOTE = Bootstrap("live", "0-1-2", "10.0.0.1:20000", "u", False, "10.11.19", "", "")


class Started(Exception):
    """Somebody starts a private server."""


@pytest.fixture
def config(tmp_path, monkeypatch):
    def start(*_, **__):
        raise Started

    monkeypatch.setattr(private_server, "of", start)
    (tmp_path / "new").mkdir()
    replication = Replication("mysql://u:p@10.0.0.1:20000", "", "", 0, True, False)
    return dataclasses.replace(partition.config(tmp_path / "p"), replication=replication)


def test_a_replica_that_is_complete_is_left_alone(config, tmp_path, capsys):
    bootstrap_note.save(tmp_path / "new", NOTE)
    (tmp_path / "new" / "master.info").touch()
    create.on_creation(config, tmp_path / "new")
    assert capsys.readouterr().err.endswith(" this replica of 10.0.0.1:20000 is complete already\n")


def test_one_that_is_not_is_completed(config, tmp_path):
    bootstrap_note.save(tmp_path / "new", NOTE)
    with pytest.raises(Started):
        create.on_creation(config, tmp_path / "new")


def test_a_complete_replica_of_another_primary_than_is_asked_for_now_begins_again(config, tmp_path):
    bootstrap_note.save(tmp_path / "new", NOTE)
    (tmp_path / "new" / "master.info").touch()
    with pytest.raises(ConfigurationError, match="^this replica was begun from u at 10.0.0.1:20000, and replication."):
        create.on_creation(dataclasses.replace(config, replication=None), tmp_path / "new")


def test_a_primary_s_database_is_none_for_a_replica(config, tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        create.on_creation(config, tmp_path / "new")
    assert str(raised.value) == (
        "this database was begun as a primary's, and the parameter replication asks for a replica now: the creation"
        " begins again as one"
    )


def test_a_primary_s_is_completed(config, tmp_path):
    with pytest.raises(Started):
        create.on_creation(dataclasses.replace(config, replication=None), tmp_path / "new")
