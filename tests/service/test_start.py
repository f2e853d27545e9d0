# SPDX-License-Identifier: GPL-2.0-or-later
"""What a start does before it serves: nothing when nothing changed, and never anything in the binary log."""

import dataclasses
import shutil
from pathlib import Path

import pymysql
import pytest

from slapos.recipe.erp5.mariadb import private_server, sql, upgrade
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.start import STATE
from tests.service import servers
from tests.service.servers import Service

PREPARED = "step: prepare the start, as "


def reasons(service: Service) -> list[str]:
    """Why each start so far needed a private server."""
    lines = [line for line in service.log().splitlines() if PREPARED in line and ": done in " not in line]
    return [line.partition(PREPARED)[2] for line in lines]


def gtids(config: Config) -> tuple:
    """Where the binary log stands: no start may change it."""
    return servers.query(config, "SELECT @@gtid_binlog_pos, @@gtid_current_pos")[0]


def replaced(partition: Path, program: str, script: str) -> str:
    """A MariaDB part like the release's but for one program, which is a shell script."""
    part = partition / "part"
    for folder in ("bin", "sbin"):
        (part / folder).mkdir(parents=True)
        for source in Path(servers.part("mariadb"), folder).iterdir():
            (part / folder / source.name).symlink_to(source)
    (part / "usr").symlink_to(Path(servers.part("mariadb"), "usr"))
    (part / program).unlink()
    (part / program).write_text(f"#!/bin/sh\n{script}\n")
    (part / program).chmod(0o700)
    return str(part)


def with_software(service: Service, **changes: str) -> Service:
    """The same partition, processed with another release."""
    software = dataclasses.replace(service.config.software, **changes)
    service.config = dataclasses.replace(service.config, software=software)
    servers.write_config(service.config)
    return service


# ---- nothing to do


def test_a_plain_restart_starts_no_private_server(complete):
    trace = complete.config.path("var", "run", "private-mariadb")
    for end in (complete.end, complete.kill, complete.end):
        complete.run()
        servers.query(complete.config, "CREATE DATABASE IF NOT EXISTS anything")
        end()
    complete.run()
    assert reasons(complete) == []
    assert not trace.exists()


def test_changes_of_accounts_are_looked_at_once(complete):
    complete.run()
    servers.query(complete.config, "CREATE USER another@localhost IDENTIFIED BY 'x'")
    complete.restart()
    complete.restart()
    assert reasons(complete) == ["accounts, plugins or time zones were changed"]


# ---- upgrade


def mark(config: Config) -> Path:
    return config.data_directory / "mysql_upgrade_info"


@pytest.mark.parametrize("version", ["10.6.18-MariaDB", "5.5.68-MariaDB", None])
def test_an_older_database_is_upgraded_unlogged(complete, version):
    complete.run()
    before = gtids(complete.config)
    complete.end()
    if version:
        mark(complete.config).write_text(version)
    else:
        mark(complete.config).unlink()
    complete.run()
    assert gtids(complete.config) == before
    assert "step: upgrade the system tables" in complete.log()
    assert f"data was written by {version or 'an unknown version'}" in reasons(complete)[0]
    assert mark(complete.config).read_text().startswith("10.11.")
    with servers.administrator(complete.config) as connection:
        assert sql.knows_time_zones(connection)
    complete.restart()
    assert len(reasons(complete)) == 1


def test_another_release_of_the_same_series_needs_no_upgrade(complete):
    mark(complete.config).write_text("10.11.2-MariaDB")
    complete.run()
    assert reasons(complete) == []


def test_a_newer_database_is_refused_and_left_alone(complete):
    mark(complete.config).write_text("11.4.2-MariaDB")
    before = {path: path.stat().st_mtime_ns for path in complete.config.data_directory.rglob("*")}
    assert complete.start().wait(servers.PATIENCE) == 1
    refusal, end = complete.log().splitlines()
    assert refusal.split(" ", 2)[2] == (
        "error: the data directory is of MariaDB 11.4.2-MariaDB and this is"
        f" {upgrade.server_version(complete.config)}, which cannot read it: install a release with that"
        " version or a newer one"
    )
    assert end.endswith("error: on_start ended with status 1: its reason is above")
    assert {path: path.stat().st_mtime_ns for path in complete.config.data_directory.rglob("*")} == before


def test_a_failed_upgrade_keeps_the_service_down_and_is_begun_again(complete, partition):
    mark(complete.config).write_text("10.6.2-MariaDB")
    good = complete.config.software.mariadb
    with_software(complete, mariadb=replaced(partition, "bin/mariadb-upgrade", "echo table broken >&2; exit 5"))
    assert complete.start().wait(servers.PATIENCE) == 1
    assert complete.log().splitlines()[-2].split(" ", 2)[2] == (
        "error: cannot upgrade the system tables, so the service does not start: mariadb-upgrade ended with status 5:"
        " table broken"
    )
    assert complete.group() == []
    with_software(complete, mariadb=good).run()
    assert mark(complete.config).read_text().startswith("10.11.")


# ---- time zones


def zones(config: Config) -> tuple:
    tables = ("time_zone", "time_zone_name", "time_zone_transition", "time_zone_transition_type")
    return tuple(servers.query(config, f"SELECT COUNT(*) FROM mysql.{table}")[0][0] for table in tables)


@pytest.mark.parametrize(
    "damage",
    [
        "TRUNCATE TABLE mysql.time_zone_name",
        "DELETE FROM mysql.time_zone_transition LIMIT 1000",
        "DROP TABLE mysql.time_zone_transition_type",
    ],
)
def test_damaged_time_zones_are_loaded_again_unlogged(complete, damage):
    complete.run()
    whole, before = zones(complete.config), gtids(complete.config)
    with servers.administrator(complete.config) as connection, sql.unlogged(connection):
        sql.execute(connection, damage)
    complete.restart()
    assert zones(complete.config) == whole
    assert gtids(complete.config) == before


def test_new_time_zones_are_loaded(complete, partition):
    zoneinfo = partition / "zoneinfo"
    shutil.copytree(complete.config.software.zoneinfo, zoneinfo, symlinks=True)
    (zoneinfo / "Moon").mkdir()
    shutil.copy(zoneinfo / "UTC", zoneinfo / "Moon" / "Tranquility")
    with_software(complete, zoneinfo=str(zoneinfo)).run()
    assert reasons(complete) == ["the time zones are new"]
    moon = "SELECT COUNT(*) FROM mysql.time_zone_name WHERE Name = 'Moon/Tranquility'"
    assert servers.query(complete.config, moon) == [(1,)]


def test_without_time_zones_in_the_release_nothing_is_emptied(complete, partition):
    (partition / "zoneinfo").mkdir()
    with_software(complete, zoneinfo=str(partition / "zoneinfo")).run()
    assert (
        complete.log().count(
            f"warning: {partition}/zoneinfo has no time zones (no file UTC): reinstall the release;"
            " the service starts without it, and the next start tries again"
        )
        == 1
    )
    with servers.administrator(complete.config) as connection:
        assert sql.knows_time_zones(connection)
    complete.restart()
    assert complete.log().count("warning:") == 2


def test_a_failing_load_is_reported_and_production_goes_on(complete, partition):
    failing = replaced(partition, "bin/mariadb-tzinfo-to-sql", "echo no luck >&2; exit 9")
    (complete.config.data_directory / STATE).unlink()
    with_software(complete, mariadb=failing).run()
    assert (
        "warning: cannot read the time zones: mariadb-tzinfo-to-sql ended with status 9: no luck; the service starts"
        " without it, and the next start tries again"
    ) in complete.log()
    with_software(complete, mariadb=servers.part("mariadb")).restart()
    assert complete.log().count("step: load the time zones\n") == 2
    assert "warning" not in complete.log().rpartition("step: load the time zones\n")[2]


# ---- the administration account


@pytest.mark.parametrize(
    "change",
    [
        "ALTER USER slapos_administrator@localhost IDENTIFIED BY 'forgotten'",
        "ALTER USER slapos_administrator@localhost ACCOUNT LOCK",
        "ALTER USER slapos_administrator@localhost PASSWORD EXPIRE",
        "ALTER USER slapos_administrator@localhost IDENTIFIED VIA unix_socket",
        "DROP USER slapos_administrator@localhost",
    ],
)
def test_the_administration_account_is_made_again_unlogged_and_no_other_touched(complete, change):
    complete.run()
    before, position = servers.accounts(complete.config), gtids(complete.config)
    with servers.administrator(complete.config) as connection:
        sql.execute(connection, "SET SESSION sql_log_bin = 0")
        sql.execute(connection, change)
    complete.restart()
    assert servers.accounts(complete.config) == before
    assert gtids(complete.config) == position
    assert "step: make the administration account again, as it cannot log in" in complete.log()
    assert not list(complete.config.path("var", "run").rglob("init.sql"))


def test_a_new_administration_password_is_set(complete):
    secrets = dataclasses.replace(complete.config.secrets, administrator_password="another-secret")
    complete.config = dataclasses.replace(complete.config, secrets=secrets)
    servers.write_config(complete.config)
    complete.run()
    assert servers.query(complete.config, "SELECT CURRENT_USER()") == [("slapos_administrator@localhost",)]
    assert reasons(complete) == ["the administration account's password is new"]


# ---- Mroonga


def test_mroonga_asked_for_later_is_installed_unlogged(make_partition):
    config = make_partition(mroonga=False, test_databases=())
    with servers.running(config) as service:
        before = gtids(config)
        service.config = dataclasses.replace(config, mroonga=True)
        servers.write_config(service.config)
        service.restart()
        with servers.administrator(config) as connection:
            assert sql.has_mroonga(connection)
        assert gtids(config) == before
        assert reasons(service)[1:] == ["Mroonga is asked for, or no longer"]


@pytest.mark.parametrize("damage", ["DROP FUNCTION mroonga_snippet", "UNINSTALL PLUGIN Mroonga"])
def test_mroonga_is_completed_unlogged(complete, damage):
    """An installation that was interrupted; nor does somebody's removal stay, as long as the parameter asks for it."""
    complete.run()
    config = complete.config
    functions = "SELECT name FROM mysql.func ORDER BY name"
    whole, before = servers.query(config, functions), gtids(config)
    with servers.administrator(config) as connection, sql.unlogged(connection):
        sql.execute(connection, damage)
    complete.restart()
    with servers.administrator(config) as connection:
        assert sql.has_mroonga(connection)
    assert servers.query(config, functions) == whole
    assert len(whole) > 1
    assert gtids(config) == before
    assert complete.log().count("step: install Mroonga\n") == 1
    complete.restart()
    assert len(reasons(complete)) == 1


# ---- when files cannot be written


def test_a_state_that_cannot_be_written_keeps_nothing_down(complete):
    state = complete.config.data_directory / STATE
    state.unlink()
    state.mkdir()  # nothing can be renamed to it
    complete.run()
    (line,) = [line for line in complete.log().splitlines() if "warning: " in line]
    assert line.split(" ", 2)[2].startswith(f"warning: cannot write {state}: ")
    assert line.endswith("; the service starts, and the next start does all this again")
    assert "Traceback" not in complete.log()
    complete.end()
    state.rmdir()
    complete.run()
    complete.restart()
    assert len(reasons(complete)) == 2


def test_a_private_folder_that_cannot_be_made_is_one_sentence(complete):
    (complete.config.data_directory / STATE).unlink()
    folder = complete.config.path("var", "run", "private-mariadb")
    folder.write_text("in the way")
    assert complete.start().wait(servers.PATIENCE) == 1
    assert complete.log().splitlines()[-2].split(" ", 2)[2] == (
        "error: cannot complete mariadb-on-start: cannot prepare the start, as nothing is known about this data"
        f" directory yet: {folder}: File exists"
    )
    assert "Traceback" not in complete.log()


# ---- on a replica


def test_upgrade_and_time_zones_run_on_a_replica_unlogged(complete):
    """read_only, and configured to replicate from nobody that answers."""
    config = complete.config
    complete.run()
    with servers.administrator(config) as connection:
        sql.execute(connection, "CHANGE MASTER TO master_host = '127.0.0.1', master_port = 1, master_user = 'x'")
        with sql.unlogged(connection):
            sql.execute(connection, "DELETE FROM mysql.time_zone_name LIMIT 1000")
    with config.defaults_file.open("a") as defaults:
        defaults.write("\nread_only = ON\n")
    before = gtids(config)
    complete.end()
    mark(config).write_text("10.6.2-MariaDB")
    complete.run()
    assert servers.query(config, "SELECT @@read_only") == [(1,)]
    assert len(reasons(complete)) == 1
    assert "it has become a replica, or is none any more" in reasons(complete)[0]
    assert gtids(config) == before
    with servers.administrator(config) as connection:
        assert sql.knows_time_zones(connection)
    assert "provision: nothing is created here: a replica gets databases and users from its primary" in complete.log()
    complete.restart()
    assert len(reasons(complete)) == 1


def test_a_private_server_fires_no_event_and_replicates_nothing(complete):
    """Before the service is there nothing may write but the start itself."""
    config = complete.config
    complete.run()
    with config.defaults_file.open("a") as defaults:
        defaults.write("\nevent_scheduler = ON\n")
    complete.restart()
    servers.query(config, "CREATE TABLE erp5.fired (t INT)")
    servers.query(config, "CREATE EVENT erp5.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO erp5.fired VALUES (1)")
    servers.query(config, "CHANGE MASTER TO master_host = '127.0.0.1', master_port = 1, master_user = 'x'")
    servers.wait_for(lambda: servers.query(config, "SELECT COUNT(*) FROM erp5.fired") > [(0,)], "an event")
    complete.end()
    with private_server.of(config, config.data_directory) as socket:
        with sql.connect(config.defaults_file, socket) as connection:
            assert sql.variable(connection, "event_scheduler") == "OFF"
            (status,) = sql.rows(connection, "SHOW ALL SLAVES STATUS")
            assert (status["Slave_IO_Running"], status["Slave_SQL_Running"]) == ("No", "No")
            assert sql.variable(connection, "skip_networking") == "1"
        with pytest.raises(pymysql.MySQLError):
            servers.login(config, "erp5_user", servers.NASTY_PASSWORD)
    assert private_server.answers(socket) is False


# ---- another directory in its place


def test_a_swapped_data_directory_is_noticed(complete, partition, make_partition):
    """The state lies in the directory that it is about, so that another one is never taken for it."""
    complete.run()
    complete.end()
    config = complete.config
    shutil.rmtree(config.data_directory)
    servers.install_plainly(config, "--skip-test-db")
    complete.run()
    assert reasons(complete) == ["nothing is known about this data directory yet"]
