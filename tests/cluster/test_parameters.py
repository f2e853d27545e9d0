# SPDX-License-Identifier: GPL-2.0-or-later
"""A changed parameter reaches the running server, an unchanged one costs nothing, and a schedule restarts nothing."""

import json
import os

from tests.cluster.node import eventually


def snapshot(instance):
    """Inode and time of each file that processing renders."""
    folders = ("etc", "bin")
    paths = [path for folder in folders for path in (instance.path / folder).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def service_names(instance):
    return {name for name in os.listdir(instance.path / "etc/service") if name.startswith("mariadb-")}


def test_a_change_reaches_files_wrapper_published_values_and_server(node, second):
    services, pid, published = service_names(second), second.pid(), second.published
    second.request({"max-connection-count": 77, "database-list": [{"name": "renamed", "user": "renamed"}]})
    node.process()
    assert "max-connections = 77" in (second.path / "etc/mariadb.cnf").read_text()
    assert service_names(second) != services
    assert second.published["database-list"] != published["database-list"]
    second.wait_until_green()
    assert second.pid() != pid
    assert second.sql("SELECT @@max_connections") == ((77,),)
    # The database that is no longer asked for stays; the new one is there.
    names = {row[0] for row in second.sql("SHOW DATABASES")}
    assert {"erp5", "renamed"} <= names


def test_processing_again_changes_nothing(node, second):
    before, pid = snapshot(second), second.pid()
    output = node.process("--all")
    assert snapshot(second) == before
    assert second.pid() == pid
    assert "Updating mariadb-cnf" in output
    assert "Installing mariadb" not in output
    assert "Uninstalling" not in output


def test_a_new_backup_schedule_leaves_the_server_alone_and_is_followed(node, second):
    services, pid = service_names(second), second.pid()
    schedule = {"logical": {"periodicity": "17 3 * * *", "retention-days": 2}}
    second.request(second.parameters | {"backup": schedule})
    node.process()
    assert (
        json.loads((second.path / "etc/mariadb.json").read_text())["backup"]["logical"]["periodicity"] == "17 3 * * *"
    )
    assert (second.pid(), service_names(second)) == (pid, services)
    state = second.path / "var/run/scheduler.json"
    eventually(lambda: "T03:17:00Z" in state.read_text(), "the scheduler follows the new schedule")
    second.wait_until_green()
