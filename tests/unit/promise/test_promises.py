# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugins without any server: what they report and in which kind of result, which decides what slapos then does."""

import dataclasses
import json
import queue

import pytest
from slapos.grid.promise import generic

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import State
from slapos.recipe.erp5.mariadb import status, verdict
from slapos.recipe.erp5.promise import (
    mariadb_accounts,
    mariadb_backup,
    mariadb_certificates,
    mariadb_disk,
    mariadb_replication,
    mariadb_server,
    neo_cluster,
    neo_node,
    zeo,
    zeo_backup,
    zope_listening,
    zope_standby,
)
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.verdict import Verdict
from tests.unit.mariadb import partition

ALL = [
    mariadb_accounts,
    mariadb_backup,
    mariadb_certificates,
    mariadb_disk,
    mariadb_replication,
    mariadb_server,
    neo_cluster,
    neo_node,
    zeo,
    zeo_backup,
    zope_listening,
    zope_standby,
]


def dashed(value):
    if isinstance(value, dict):
        return {key.replace("_", "-"): dashed(item) for key, item in value.items()}
    return [dashed(item) for item in value] if isinstance(value, tuple) else value


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path / "p")


def run(tmp_path, plugin, config=None, check_anomaly=True, **options):
    """The one result that slapos would get; `config` is written where `config-file` says."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "mariadb.json"
    if config:
        path.write_text(json.dumps(dashed(dataclasses.asdict(config))))
    results: queue.Queue = queue.Queue()
    promise = plugin.RunPromise(
        {"name": "p.py", "path": "/p.py", "partition-folder": str(tmp_path), "log-folder": str(tmp_path / "log")}
        | {"queue": results, "config-file": str(path)}
        | options
    )
    promise.run(check_anomaly=check_anomaly, can_bang=True)
    (result,) = (results.get_nowait() for _ in range(results.qsize()))
    return result.item


@pytest.mark.parametrize("plugin", ALL)
def test_nothing_is_tested_while_the_partition_is_processed(tmp_path, plugin):
    assert isinstance(run(tmp_path, plugin, check_anomaly=False), generic.EmptyResult)


@pytest.mark.parametrize("plugin", ALL)
def test_a_missing_configuration_is_reported(tmp_path, plugin):
    result = run(tmp_path, plugin)
    path = tmp_path / "mariadb.json"
    assert type(result) is generic.TestResult
    assert result.hasFailed()
    assert result.message == (f"{path} cannot be read as JSON: [Errno 2] No such file or directory: '{path}'")


def test_a_bug_of_ours_is_a_failure_and_no_bang(tmp_path, config, monkeypatch):
    monkeypatch.setattr(status, "server", lambda config: 1 / 0)
    result = run(tmp_path, mariadb_server, config)
    assert (type(result), result.hasFailed(), result.message) == (generic.TestResult, True, "division by zero")


def test_each_sentence_is_one_line(tmp_path, config, monkeypatch):
    monkeypatch.setattr(status, "server", lambda config: None)
    monkeypatch.setattr(verdict, "server", lambda _: Verdict(False, ("one\nline", "two")))
    result = run(tmp_path, mariadb_server, config)
    assert (result.hasFailed(), result.message) == (True, "one line\ntwo")


def test_it_turns_green_by_itself(tmp_path, config, monkeypatch):
    monkeypatch.setattr(status, "server", lambda config: None)
    for good in (False, True):
        monkeypatch.setattr(verdict, "server", lambda _, good=good: Verdict(good, (f"good: {good}",)))
        result = run(tmp_path, mariadb_server, config)
        assert (type(result), result.hasFailed(), result.message) == (generic.TestResult, not good, f"good: {good}")


def test_server(tmp_path, config):
    config.data_directory.rmdir()
    result = run(tmp_path, mariadb_server, config)
    assert result.hasFailed()
    assert result.message == (
        f"there is no database in {config.data_directory}, expected one, as the service makes it when it starts: "
        "process the instance (slapos node instance --all) to start the service, and if that does not help read its log"
    )


def test_backup(tmp_path, config):
    result = run(tmp_path, mariadb_backup, config)
    assert result.hasFailed()
    assert result.message == (
        "the scheduler never ran, expected a sign of life every 30 s: read the log of the service mariadb-control, "
        "and process the instance (slapos node instance --all) to start it"
    )
    state.save(config.scheduler_state, State(heartbeat=times.text(times.now())))
    result = run(tmp_path, mariadb_backup, config)
    assert (result.hasFailed(), result.message) == (False, "there is no database to back up yet")


def test_disk(tmp_path, config, monkeypatch):
    gathered = status.DiskStatus("/p/srv", 0, 0, (), status.BinaryLogs(0, None, 10))
    monkeypatch.setattr(status, "disk", lambda config: gathered)
    result = run(tmp_path, mariadb_disk, config)
    assert result.hasFailed()
    assert result.message == (
        "0 bytes are free for /p/srv, expected at least 1.0 GiB, 1.0 GiB for binary logs (10 days at 0 bytes a day, "
        "0 bytes there): free some, give it a larger disk, or lower binlog-expire-days"
    )


def test_replication(tmp_path, config):
    result = run(tmp_path, mariadb_replication, config)
    assert result.hasFailed()
    assert result.message == (
        f"replication cannot be judged, as no server answers on {config.socket} (cannot connect to MariaDB: "
        "Can't connect to MySQL server on 'localhost' ([Errno 2] No such file or directory) (2003)), expected one: the "
        "promise mariadb-server says what to do"
    )


def test_certificates(tmp_path, config):
    files.ensure(config.tls, "mariadb", ["127.0.0.2"])
    result = run(tmp_path, mariadb_certificates, config)
    assert not result.hasFailed()
    assert result.message == (
        "the certificates are placeholders until the authority has answered, which takes some minutes at most"
    )
    config.tls.joinpath("server.pem").write_text("")
    # Elsewhere, as slapos tells two runs of one second apart by a random number below 900.
    result = run(tmp_path / "again", mariadb_certificates, config)
    assert result.hasFailed()
    assert result.message == (
        "server.pem cannot be used (it holds no private key with its certificate), expected a key with its "
        "certificate, which the renewal puts there: read the log of the service mariadb-control"
    )
