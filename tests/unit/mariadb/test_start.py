# SPDX-License-Identifier: GPL-2.0-or-later
"""What a start gathers from files: versions, time zones, and what an earlier start has left."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import private_server, start, timezone, upgrade
from slapos.recipe.erp5.mariadb.config import Config, Database
from slapos.recipe.erp5.mariadb.decide import Snapshot
from tests.unit.mariadb import partition


@pytest.fixture
def zoneinfo(tmp_path) -> Path:
    folder = tmp_path / "zoneinfo"
    (folder / "Europe").mkdir(parents=True)
    (folder / "UTC").write_bytes(b"TZif0")
    (folder / "Europe" / "Paris").write_bytes(b"TZif1")
    return folder


@pytest.fixture
def config(tmp_path, zoneinfo) -> Config:
    config = partition.config(tmp_path / "p")
    (config.data_directory / "mysql").mkdir()
    return dataclasses.replace(config, software=dataclasses.replace(config.software, zoneinfo=str(zoneinfo)))


# ---- time zones


def test_the_fingerprint_is_of_names_and_contents_alone(zoneinfo):
    before = timezone.fingerprint(zoneinfo)
    os.utime(zoneinfo / "UTC", (1, 1))
    assert timezone.fingerprint(zoneinfo) == before
    (zoneinfo / "Europe" / "Paris").rename(zoneinfo / "Europe" / "Rome")
    renamed = timezone.fingerprint(zoneinfo)
    (zoneinfo / "Europe" / "Rome").write_bytes(b"TZif2")
    assert len({before, renamed, timezone.fingerprint(zoneinfo)}) == 3


def test_a_folder_without_time_zones_is_refused(tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        timezone.fingerprint(tmp_path)
    assert str(raised.value) == f"{tmp_path} has no time zones (no file UTC): reinstall the release"


# ---- versions


def test_the_data_s_version_comes_from_either_mark(tmp_path):
    assert upgrade.data_version(tmp_path) == ""
    (tmp_path / "mysql_upgrade_info").write_text("10.11.19-MariaDB")
    assert upgrade.data_version(tmp_path) == "10.11.19-MariaDB"
    (tmp_path / "mariadb_upgrade_info").write_text("11.4.2-MariaDB\n")
    assert upgrade.data_version(tmp_path) == "11.4.2-MariaDB"


# ---- the state


def test_what_is_present_changes_with_each_thing_that_matters(config, zoneinfo):
    seen = [start.present(config)]

    def differs(field: str, changed: Config) -> None:
        seen.append(start.present(changed))
        before, now = map(dataclasses.asdict, seen[-2:])
        assert [name for name in now if now[name] != before[name]] == [field]

    differs("mroonga", config := dataclasses.replace(config, mroonga=True))
    secrets = dataclasses.replace(config.secrets, administrator_password="b")
    differs("administrator", config := dataclasses.replace(config, secrets=secrets))
    differs("requested", config := dataclasses.replace(config, databases=(Database("a", "b", "c"),)))
    network = dataclasses.replace(config.network, ipv6="::1")
    differs("requested", config := dataclasses.replace(config, network=network))
    (config.data_directory / "master.info").touch()
    differs("replica", config)
    (config.data_directory / "mysql" / "plugin.MAD").write_text("x")
    differs("files", config)
    (zoneinfo / "UTC").write_bytes(b"new")
    differs("zoneinfo", config)
    (zoneinfo / "UTC").unlink()
    differs("zoneinfo", config)


def test_no_secret_is_in_the_state(config):
    secrets = dataclasses.replace(config.secrets, administrator_password="administrator-secret")
    config = dataclasses.replace(config, secrets=secrets, databases=(Database("a", "b", "user-secret"),))
    assert "secret" not in repr(start.present(config))
    changed = dataclasses.replace(config, databases=(Database("a", "b", "another"),))
    assert start.present(changed) == start.present(config)  # a password in the parameters changes nothing


def test_the_state_is_read_as_it_was_written(config):
    handled = start.present(config)
    path = config.data_directory / start.STATE
    start.write_state(path, handled)
    assert start.read_state(path) == handled
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [None, "", "{", "{}", "[]", json.dumps({"administrator": 1})])
def test_a_state_that_cannot_be_read_is_no_state(tmp_path, content):
    path = tmp_path / "state"
    if content is not None:
        path.write_text(content)
    assert start.read_state(path) is None


def test_a_state_that_cannot_be_written_is_no_reason_to_serve_nothing(config, monkeypatch, capsys):
    handled = start.present(config)
    snapshot = Snapshot("10.11.19-MariaDB", "10.11.19-MariaDB", None, handled)
    monkeypatch.setattr(start, "gather", lambda config: snapshot)
    monkeypatch.setattr(start, "act", lambda config, decision, now: handled)
    path = config.data_directory / start.STATE
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        start.on_start(config)
    assert capsys.readouterr().err.splitlines()[-1].split(" ", 2)[2] == (
        f"warning: cannot write {path}: No space left on device: free disk space; the service starts, and the next"
        " start does all this again"
    )
    assert start.read_state(path) is None and not path.exists()
    start.on_start(config)
    assert start.read_state(path) == start.present(config)


def test_an_optional_step_that_the_system_refuses_is_a_warning(tmp_path, capsys):
    with start.optional() as outcome, process.step("load the time zones"):
        (tmp_path / "none" / "x").mkdir()
    assert outcome.failed
    assert capsys.readouterr().err.splitlines()[-1].split(" ", 2)[2] == (
        f"warning: cannot load the time zones: {tmp_path}/none/x: No such file or directory; the service starts"
        " without it, and the next start tries again"
    )


# ---- the private server's folder


def test_a_socket_with_a_long_path_is_refused(tmp_path):
    long = tmp_path / ("x" * 100)
    with pytest.raises(ConfigurationError) as raised, private_server.serving("/none", "/none", tmp_path / "data", long):
        pass
    assert str(raised.value) == (
        f"the socket {long}/private-data/socket has a path of more than 107 bytes, which Linux refuses: move the"
        " partition to a shorter path"
    )


def test_the_last_errors_of_a_server(tmp_path):
    log = tmp_path / "error.log"
    assert private_server.last_errors(log) == "it said nothing"
    log.write_text("1 [Note] a\n2 [ERROR] first\n3 [Note] b\n4 [ERROR] second\n")
    assert private_server.last_errors(log) == "first second"
    assert private_server.last_line(log) == "4 [ERROR] second"
    log.write_text("only a note\n")
    assert private_server.last_errors(log) == "only a note"


# ---- static options


def test_options_are_left_for_the_service_script_and_taken_away_again(tmp_path):
    path = tmp_path / "options"
    start.write_options(path, ())
    assert not path.exists()
    start.write_options(path, ("--one", "--two"))
    assert path.read_text() == "--one\n--two\n"
    before = path.stat().st_ino
    start.write_options(path, ("--one", "--two"))
    assert path.stat().st_ino == before  # not written again: a full disk keeps no replica from starting
    start.write_options(path, ("--one",))
    assert path.read_text() == "--one\n"
    start.write_options(path, ())
    assert not path.exists()
