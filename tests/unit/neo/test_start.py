# SPDX-License-Identifier: GPL-2.0-or-later
"""How each process of a node is started, and what is decided once, when it is created."""

import json
import subprocess

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError, Refused
from slapos.recipe.erp5.neo import start
from tests.unit.neo import partition
from tests.unit.neo.partition import UPSTREAM

COMMON = ["--cluster", "copy", "--masters", "127.0.0.1:30000 127.0.0.1:30001", "--bind"]


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run, each of which makes its database; the first word says what neomaster's help has."""
    commands = []

    def run(command, attempt, **_):
        commands.append([str(word) for word in command])
        if "--reset" in command:
            path = command[command.index("--database") + 1]
            open(path, "x").close()
        return subprocess.CompletedProcess(command, 0, run.help, b"")

    run.help = b"usage: neomaster"
    monkeypatch.setattr(process, "run", run)
    return type("Ran", (), {"commands": commands, "run": run})


def test_a_master_runs_with_our_additions(tmp_path, ran):
    config = partition.node(tmp_path)
    assert list(start.prepared(config, "master")) == [
        *("/none/neoppod/bin/python", "/none/neo_master.py", "--new-flag", f"{tmp_path}/srv/neo/new", "--"),
        *(*COMMON, "127.0.0.1:30000", "--logfile", f"{tmp_path}/var/log/neo-master.log"),
        *("--partitions", "12", "--replicas", "1", "--autostart", "4"),
    ]
    assert not config.new_flag.exists()
    assert json.loads(config.upstream_file.read_text()) == {"upstream": None}


def test_a_neomaster_that_makes_backups_itself_is_preferred(tmp_path, ran):
    ran.run.help = b"  -B, --backup  stay in backup mode"
    command = start.prepared(partition.node(tmp_path, upstream=UPSTREAM, autostart=0), "master")
    assert command[0] == "/none/neoppod/bin/neomaster"
    assert command[-5:] == ("--upstream-cluster", "main", "--upstream-masters", "127.0.0.9:30000", "--backup")
    assert "--autostart" not in command


def test_a_new_master_of_a_backup_notes_that_it_is_new_and_whom_it_follows(tmp_path, ran):
    config = partition.node(tmp_path, upstream=UPSTREAM)
    command = start.prepared(config, "master")
    assert command[-4:] == ("--upstream-cluster", "main", "--upstream-masters", "127.0.0.9:30000")
    assert json.loads(config.new_flag.read_text()) == {}
    assert config.new_flag.stat().st_mode & 0o077 == 0


def test_a_master_that_exists_follows_what_it_was_created_to_follow(tmp_path, ran):
    start.prepared(partition.node(tmp_path), "master")
    config = partition.node(tmp_path, upstream=UPSTREAM)
    assert "--upstream-cluster" not in start.prepared(config, "master")
    assert not config.new_flag.exists()

    other = tmp_path / "other"
    config = partition.node(other, upstream=UPSTREAM)
    start.prepared(config, "master")
    config.new_flag.unlink()  # its first copy is complete
    assert "--upstream-cluster" in start.prepared(partition.node(other), "master")
    assert not config.new_flag.exists()


def test_a_master_that_was_killed_while_it_was_created_is_created_again(tmp_path, ran):
    config = partition.node(tmp_path, upstream=UPSTREAM)
    config.new_flag.write_text('{"goal": "0x1"}')
    assert "--upstream-cluster" in start.prepared(config, "master")
    assert json.loads(config.new_flag.read_text()) == {}


def test_a_master_that_was_added_later_is_no_reason_for_a_first_copy(tmp_path, ran):
    config = partition.node(tmp_path, upstream=UPSTREAM, founding=False)
    assert "--upstream-cluster" in start.prepared(config, "master")
    assert not config.new_flag.exists()


def test_a_file_that_cannot_be_read_is_no_reason_to_begin_anew(tmp_path, ran):
    config = partition.node(tmp_path, upstream=UPSTREAM)
    config.upstream_file.write_text("")
    with pytest.raises(ConfigurationError):
        start.prepared(config, "master")
    assert config.upstream_file.read_text() == "" and not config.new_flag.exists()


def test_an_admin_and_a_storage_with_an_ipv6(tmp_path, ran):
    network = partition.Network("::1", 0, 31000, 10000)
    config = partition.node(tmp_path, network=network, master=False)
    assert config.names == ("admin", "storage-0", "storage-1")
    assert list(start.prepared(config, "admin")) == [
        *("/none/neoppod/bin/neoadmin", *COMMON),
        *("[::1]:31000", "--logfile", f"{tmp_path}/var/log/neo-admin.log"),
    ]
    assert list(start.prepared(config, "storage-1")) == [
        *("/none/neoppod/bin/neostorage", *COMMON),
        *("[::1]:10001", "--logfile", f"{tmp_path}/var/log/neo-storage-1.log"),
        *("--adapter", "SQLite", "--database", f"{tmp_path}/srv/neo/storage-1.sqlite"),
    ]


def test_a_storage_is_set_up_once(tmp_path, ran):
    config = partition.node(tmp_path)
    command = start.prepared(config, "storage-0")
    assert ran.commands == [[*command, "--reset"]]
    assert start.prepared(config, "storage-0") == command
    assert len(ran.commands) == 1
    config.database("storage-0").unlink()
    with pytest.raises(Refused) as caught:
        start.prepared(config, "storage-0")
    assert str(caught.value) == (
        f"{tmp_path}/srv/neo/storage-0.sqlite is not there, expected the database that was made once: bring it"
        f" back; or,"
        " to have an empty one in its place, which the cluster then fills, remove"
        f" {tmp_path}/srv/neo/storage-0.set-up"
    )
    config.set_up("storage-0").unlink()
    start.prepared(config, "storage-0")
    assert len(ran.commands) == 2


def test_a_database_that_is_there_is_never_made_again(tmp_path, ran):
    config = partition.node(tmp_path)
    config.database("storage-0").write_text("data")
    start.prepared(config, "storage-0")
    assert ran.commands == [] and config.database("storage-0").read_text() == "data"
    assert config.set_up("storage-0").exists()


def test_nothing_starts_before_the_masters_are_known_nor_what_the_node_does_not_have(tmp_path, ran):
    with pytest.raises(Refused, match="the cluster's masters are not known yet"):
        start.prepared(partition.node(tmp_path, masters=()), "storage-0")
    with pytest.raises(Refused, match="no storage-2, expected one of master, admin, storage-0, storage-1"):
        start.prepared(partition.node(tmp_path), "storage-2")
    assert list((tmp_path / "srv/neo").iterdir()) == []
