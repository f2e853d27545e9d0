# SPDX-License-Identifier: GPL-2.0-or-later
"""Replicas made from nothing but binary logs or from a copy: they replicate, and write nothing of their own."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import gtid, sql
from slapos.recipe.erp5.mariadb.config import Config, Database
from slapos.recipe.erp5.mariadb.sql_replication import Source
from tests.service import servers
from tests.service.replication_fixtures import (
    Pair,
    address,
    note,
    replica_config,
    replica_service,
    running_pair,
    services,
    temporary_partition,
)
from tests.service.servers import Service

__all__ = ["services"]

READ_ONLY = 1290


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its replica from binary logs over TLS, for tests that leave both as they were."""
    with running_pair() as made:
        yield made


def rows(config: Config) -> list:
    return [number for (number,) in servers.query(config, "SELECT a FROM erp5.t ORDER BY a")]


def own_events(config: Config) -> list[str]:
    """What is in the replica's binary logs with its own server id, without what each log begins and ends with."""
    found = []
    for name, *_ in servers.query(config, "SHOW BINARY LOGS"):
        for event in servers.query(config, f"SHOW BINLOG EVENTS IN '{name}'"):
            if event[3] == config.server_id:
                found.append(event[2])
    return [kind for kind in found if kind not in ("Format_desc", "Gtid_list", "Binlog_checkpoint", "Rotate", "Stop")]


# ---- from binary logs


def test_it_has_the_primary_s_rows_accounts_and_memory(pair):
    here, there = pair.primary.config, pair.replica.config
    servers.query(here, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
    servers.query(here, "INSERT INTO erp5.t VALUES (1), (2)")
    pair.wait()
    assert rows(there) == [1, 2]
    memory = "SELECT kind, name FROM slapos.provisioned ORDER BY 1, 2"
    assert servers.query(there, memory) == servers.query(here, memory) != []
    assert {name: text for name, text in servers.accounts(there).items() if "administrator" not in name} == {
        name: text for name, text in servers.accounts(here).items() if "administrator" not in name
    }
    servers.query(here, "DROP TABLE erp5.t")
    pair.wait()


def test_its_users_log_in_with_the_primary_s_passwords(pair):
    entry = pair.primary.config.databases[0]
    servers.login(pair.replica.config, entry.user, entry.password, entry.name).close()


def test_it_replicates_over_tls_and_proves_the_primary(pair):
    source = pair.source()
    assert source == Source(
        name="",
        host="127.0.0.1",
        port=pair.primary.config.network.port,
        user="replication_user",
        io=source.io,
        sql=source.sql,
        lag=0,
        tls=True,
        verified=True,
        using_gtid="Slave_Pos",
        gtid_io_pos=source.gtid_io_pos,
    )
    assert (source.io.running, source.sql.running, str(source.io), str(source.sql)) == ("Yes", "Yes", "", "")


def test_ordinary_accounts_cannot_write(pair):
    entry = pair.primary.config.databases[0]
    with (
        servers.login(pair.replica.config, entry.user, entry.password, entry.name) as connection,
        pytest.raises(pymysql.MySQLError) as raised,
    ):
        connection.cursor().execute("CREATE TABLE mine (a INT)")
    assert raised.value.args[0] == READ_ONLY


def test_nothing_in_its_binary_log_is_its_own(pair):
    config = pair.replica.config
    state = gtid.parse(servers.query(config, "SELECT @@gtid_binlog_state")[0][0])
    assert {one.server for one in state} == {pair.primary.config.server_id}
    assert own_events(config) == []
    assert servers.query(config, "SELECT @@gtid_strict_mode, @@read_only, @@log_slave_updates") == [(1, 1, 1)]


def test_time_zones_and_mroonga_are_there(pair):
    with servers.administrator(pair.replica.config) as connection:
        assert sql.knows_time_zones(connection)
        assert sql.has_mroonga(connection)


def test_an_event_of_the_primary_does_not_fire_on_it(pair):
    here, there = pair.primary.config, pair.replica.config
    servers.query(here, "CREATE EVENT erp5.e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    pair.wait()
    assert servers.query(there, "SELECT status FROM information_schema.events") == [("SLAVESIDE_DISABLED",)]
    servers.query(here, "DROP EVENT erp5.e")
    pair.wait()


def test_a_restart_keeps_the_role_and_an_upgrade_is_unlogged(pair):
    config = pair.replica.config
    before = servers.query(config, "SELECT @@gtid_binlog_state")
    pair.replica.end()
    (config.data_directory / "mysql_upgrade_info").write_text("10.6.18-MariaDB")
    text = pair.replica.log_of(pair.replica.run)
    assert "step: upgrade the system tables" in text and "step: load the time zones" in text
    assert "provision: nothing is created here: a replica gets databases and users from its primary" in text
    pair.wait()
    assert servers.query(config, "SELECT @@gtid_binlog_state") == before
    assert own_events(config) == []
    assert servers.query(config, "SELECT @@read_only") == [(1,)]
    pair.replica.kill()
    pair.replica.run()
    pair.wait()
    assert config.server_options.read_text() == "--read-only=ON\n"


def test_no_password_of_the_primary_is_in_a_log_of_the_replica(pair):
    config = pair.replica.config
    secret = config.secrets.replication_password.encode()
    texts = [path for path in config.path("var", "log").iterdir() if path.is_file()]
    binlogs = list(config.data_directory.glob("*binlog.0*"))
    assert binlogs and len(texts) >= 2
    assert [path for path in (*texts, *binlogs) if secret in path.read_bytes()] == []


# ---- without TLS, without TCP


def test_without_tls_where_both_sides_say_so():
    with running_pair(replicate_with_tls=False) as pair:
        source = pair.source()
        assert (source.tls, source.verified, source.io.running) == (False, False, "Yes")
        (statement,) = servers.query(pair.primary.config, "SHOW CREATE USER replication_user@'%.%.%.%'")[0]
        assert "REQUIRE" not in statement


def test_a_replica_without_tcp_gets_it_back_when_it_is_none_any_more():
    with running_pair(allow_tcp_connections_on_replica=False) as pair:
        config = pair.replica.config
        entry = pair.primary.config.databases[0]
        assert servers.query(config, "SELECT @@skip_networking") == [(1,)]
        with pytest.raises(pymysql.MySQLError):
            servers.login(config, entry.user, entry.password)
        servers.query(pair.primary.config, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
        servers.query(pair.primary.config, "INSERT INTO erp5.t VALUES (7)")
        pair.wait()
        assert rows(config) == [7]
        servers.query(config, "STOP SLAVE")
        servers.query(config, "RESET SLAVE ALL")
        pair.replica.restart()
        assert servers.query(config, "SELECT @@skip_networking, @@read_only") == [(0, 0)]
        servers.login(config, entry.user, entry.password, entry.name).close()


def test_without_the_parameter_a_replica_has_tcp(pair):
    config = dataclasses.replace(pair.replica.config, replication=None)
    servers.write_json(config)
    pair.replica.restart()
    assert servers.query(config, "SELECT @@skip_networking, @@read_only") == [(0, 1)]
    servers.write_json(pair.replica.config)


# ---- from a copy


@pytest.fixture(scope="module")
def source() -> Iterator[Service]:
    """A primary with rows and an event whose data directory, as of its GTID, lies in var/copy."""
    with temporary_partition() as config, servers.running(config) as service:
        servers.query(config, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
        servers.query(config, "INSERT INTO erp5.t VALUES (1), (2)")
        servers.query(config, "CREATE EVENT erp5.e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
        position = servers.query(config, "SELECT @@gtid_binlog_pos")[0][0]
        service.end()
        shutil.copytree(config.data_directory, copy(config))
        config.path("var", "copy.gtid").write_text(position)
        service.run()
        servers.query(config, "INSERT INTO erp5.t VALUES (3)")
        yield service


def copy(config: Config) -> Path:
    return config.path("var", "copy")


def position(config: Config) -> str:
    return config.path("var", "copy.gtid").read_text()


def from_copy(source: Service, make: Callable[..., Config]) -> Service:
    config = replica_config(make, source.config)
    return replica_service(config, note(address(source.config), position(source.config)), copy(source.config))


def test_from_a_copy_it_goes_on_at_the_copy_s_gtid(source, services, make_partition):
    replica = services(from_copy(source, make_partition))
    replica.run()
    pair = Pair(source, replica)
    pair.wait()
    assert rows(replica.config) == [1, 2, 3]
    assert (
        f"step: replicate from {address(source.config).address} over TLS, from GTID {position(source.config)} on"
        in (replica.log())
    )
    assert own_events(replica.config) == []
    assert servers.query(replica.config, "SELECT status FROM information_schema.events") == [("SLAVESIDE_DISABLED",)]
    entry = source.config.databases[0]
    servers.login(replica.config, entry.user, entry.password, entry.name).close()
    other = {name for name in servers.accounts(source.config)}
    assert set(servers.accounts(replica.config)) == other
    with pytest.raises(ServerError):
        sql.connect(source.config.defaults_file, replica.config.socket)  # its administrator is not the primary's


def test_a_replica_of_a_replica(source, services, make_partition):
    middle = services(from_copy(source, make_partition))
    middle.run()
    Pair(source, middle).wait()
    last_config = replica_config(make_partition, middle.config)
    # The middle one serves with a certificate of its own authority.
    begun = note(address(middle.config), position(source.config))
    last = services(replica_service(last_config, begun, copy(source.config)))
    last.run()
    servers.query(source.config, "REPLACE INTO erp5.t VALUES (4)")
    Pair(source, last).wait()
    assert rows(last.config) == [1, 2, 3, 4]
    assert own_events(last.config) == [] == own_events(middle.config)


@pytest.mark.parametrize(
    "step",
    [
        "start a private server, and make the administration account",
        "replicate from",
        "stop the private server",
        "sync",
    ],
)
def test_killed_while_it_is_made_it_is_made_again(source, services, make_partition, step):
    replica = services(from_copy(source, make_partition))
    replica.start()
    servers.wait_for(lambda: f"step: {step}" in replica.log(), step)
    replica.kill()
    replica.run()
    Pair(source, replica).wait()
    assert 3 in rows(replica.config)


def test_another_primary_than_it_was_begun_from_is_refused(source, services, make_partition):
    replica = services(from_copy(source, make_partition))
    config = replica.config
    other = dataclasses.replace(address(source.config), port=source.config.network.port + 1)
    begun = note(other, position(source.config))
    replica = services(replica_service(config, begun, copy(source.config)))
    assert replica.start().wait(servers.PATIENCE) == 1
    here = address(source.config).address
    assert (
        f"error: this replica was begun from replication_user at {other.address}, and replication.primary-url now names"
        f" replication_user at {here}: the creation begins again from there\n"
    ) in replica.log()
    assert not config.data_directory.exists()


# ---- databases whose passwords are not known


def test_once_it_is_a_primary_it_says_which_passwords_it_lacks_and_creates_what_has_one(
    source, services, make_partition
):
    replica = services(from_copy(source, make_partition))
    replica.run()
    Pair(source, replica).wait()
    servers.query(replica.config, "STOP SLAVE")
    servers.query(replica.config, "RESET SLAVE ALL")
    more = (*replica.config.databases, Database("later", "later", ""), Database("now", "now", "secret"))
    replica.config = dataclasses.replace(replica.config, databases=more)
    servers.write_json(replica.config)
    text = replica.log_of(replica.restart)
    assert "provision: not created, as no password for it is known here: later (give one in database-list)" in text
    assert "provision: created database now" in text
    assert ("later",) not in servers.query(replica.config, "SHOW DATABASES")


def test_the_json_of_a_replica_may_have_empty_passwords(source, make_partition):
    config = replica_config(make_partition, source.config)
    assert json.loads(config.path("etc", "mariadb.json").read_text())["databases"][0]["password"] == ""
    assert servers.load(config).databases[0].password == ""
