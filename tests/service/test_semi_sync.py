# SPDX-License-Identifier: GPL-2.0-or-later
"""Semi-synchronous replication on two real servers: what was acknowledged is on the replica, or the promise says so."""

import dataclasses
import threading
import time
from collections.abc import Iterator

import pymysql
import pytest

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Busy
from slapos.recipe.erp5.mariadb import (
    private_server,
    replication_status,
    replication_verdict,
    semi_sync,
    sql,
    sql_semi_sync,
)
from slapos.recipe.erp5.mariadb.config import Config, SemiSync
from slapos.recipe.erp5.verdict import Verdict
from tests.service import servers
from tests.service.replication_fixtures import KeptPair, Pair, address, kept_pair
from tests.service.servers import Service

REMEDY = (
    "see that a replica with semi-sync.enable is connected and keeps up, upon which this mends itself, or give false "
    "to both"
)


def ask(service: Service, enable: bool = True, timeout: int = 1) -> None:
    """Change the parameter, as processing does: the program's own file alone."""
    service.config = dataclasses.replace(service.config, semi_sync=SemiSync(enable, timeout))
    servers.write_json(service.config)


def state(config: Config) -> sql_semi_sync.State:
    with servers.administrator(config) as connection:
        return sql_semi_sync.state(connection)


def settle(pair: Pair) -> None:
    """What mariadb-control does, the replica first."""
    for service in (pair.replica, pair.primary):
        semi_sync.follow(service.config)


def wait_until_active(pair: Pair) -> None:
    def active() -> bool:
        settle(pair)
        found = state(pair.primary.config)
        return found.active and found.clients == 1

    servers.wait_for(active, "semi-sync replication to be on")


@pytest.fixture(scope="module")
def kept() -> Iterator[KeptPair]:
    with kept_pair("CREATE TABLE erp5.t (a INT PRIMARY KEY)") as kept:
        yield kept


@pytest.fixture
def pair(kept: KeptPair) -> Iterator[Pair]:
    with kept.begun() as made:
        for service in (made.primary, made.replica):
            ask(service)
        wait_until_active(made)
        yield made


def judge(config: Config) -> Verdict:
    now = times.now()
    return replication_verdict.replication(replication_status.gather(config, now), now)


def numbers(config: Config) -> set[int]:
    return {number for (number,) in servers.query(config, "SELECT a FROM erp5.t")}


# ---- on, off


def test_both_sides_do_what_is_asked_without_a_restart(pair):
    here, there = pair.primary.config, pair.replica.config
    assert state(here) == sql_semi_sync.State(True, True, 1, 1000, "AFTER_SYNC", False, False)
    assert (state(there).awaits, state(there).acknowledges, state(there).acknowledging) == (False, True, True)
    position = servers.query(here, "SELECT @@gtid_binlog_pos")[0][0]
    assert judge(here) == Verdict(
        True,
        (
            f"Mariadb is a primary, at GTID {position}; connected replicas: {there.server_id}; replicas that "
            "acknowledge: 1",
        ),
    )
    (sentence,) = judge(there).sentences
    assert judge(there).good and sentence.endswith(f"at GTID {position}; it acknowledges what it receives")
    assert not semi_sync.follow(here) and not semi_sync.follow(there)
    ask(pair.primary, timeout=3)
    assert judge(pair.primary.config).sentences == (
        "a write waits 1 s for a replica (AFTER_SYNC), expected 3 s (AFTER_SYNC), as semi-sync.timeout-seconds says: "
        f"{semi_sync.KEPT}",
    )
    for service in (pair.primary, pair.replica):
        ask(service, enable=False)
    off = f"semi-sync replication is on, expected it off, as semi-sync.enable is false: {semi_sync.KEPT}"
    assert judge(pair.primary.config).sentences == judge(pair.replica.config).sentences == (off,)
    settle(pair)
    assert not state(here).awaits and not state(there).acknowledges
    assert judge(pair.primary.config).good
    servers.wait_for(lambda: judge(pair.replica.config).good, "the replica to receive again")
    servers.wait_for(lambda: state(here).clients == 0, "the primary to have no replica that acknowledges")


def test_a_replica_that_does_not_acknowledge_is_told(pair):
    ask(pair.replica, enable=False)
    semi_sync.follow(pair.replica.config)
    ask(pair.replica)
    servers.wait_for(lambda: pair.source().io.running == "Yes", "the thread that receives, which was restarted")
    assert judge(pair.replica.config).sentences == (
        "the replica does not acknowledge what it receives (rpl_semi_sync_slave_enabled is OFF), expected it to, as "
        f"semi-sync.enable is true: {semi_sync.KEPT}",
    )


def test_the_control_program_follows_parameters_and_waits_for_actions(pair):
    path = pair.primary.config.path("etc", "mariadb.json")
    stop = threading.Event()
    thread = threading.Thread(target=semi_sync.keep, args=(path, stop))
    thread.start()
    try:
        ask(pair.primary, timeout=7)
        servers.wait_for(lambda: state(pair.primary.config).timeout == 7000, "the new time-out")
    finally:
        stop.set()
        thread.join(servers.PATIENCE)
    ask(pair.primary, enable=False)
    with process.lock(pair.primary.config.path("var", "run", "action.lock"), "a test"), pytest.raises(Busy):
        semi_sync.follow(pair.primary.config)
    assert state(pair.primary.config).awaits


# ---- what was acknowledged


class Writer(threading.Thread):
    """Inserts 1, 2, ... as an application does, and notes each that was acknowledged, until the server is gone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        entry = config.databases[0]
        self.connection = servers.login(config, entry.user, entry.password, entry.name)
        self.connection.autocommit(True)
        self.acknowledged: list[int] = []

    def run(self) -> None:
        try:
            with self.connection.cursor() as cursor:
                for number in range(1, 1 << 30):
                    cursor.execute("INSERT INTO t VALUES (%s)", (number,))
                    self.acknowledged.append(number)
        except pymysql.MySQLError:
            pass


def test_all_that_was_acknowledged_before_a_kill_is_on_the_replica(pair):
    ask(pair.primary, timeout=servers.PATIENCE)  # on a busy machine, too, no row is acknowledged without the replica
    semi_sync.follow(pair.primary.config)
    wait_until_active(pair)
    writer = Writer(pair.primary.config)
    writer.start()
    servers.wait_for(lambda: len(writer.acknowledged) > 200, "some rows")
    pair.primary.kill()
    writer.join(servers.PATIENCE)

    def applied() -> bool:
        return servers.query(pair.replica.config, "SELECT @@gtid_slave_pos")[0][0] == pair.source().gtid_io_pos

    servers.wait_for(applied, "the replica to apply what it received")
    assert set(writer.acknowledged) - numbers(pair.replica.config) == set()


def test_without_an_answer_writes_go_on_and_the_promise_says_so_until_it_mends_itself(pair):
    here, there = pair.primary.config, pair.replica.config
    servers.query(there, "STOP SLAVE IO_THREAD")
    servers.wait_for(lambda: state(here).clients == 0, "the replica to be gone")
    (without,) = judge(here).sentences
    assert without == (
        "semi-sync replication is on without a replica that acknowledges, expected one, as semi-sync.enable is true: "
        f"the next write waits 1 s, and all others go on without a replica; {REMEDY}"
    )
    began = time.monotonic()
    servers.query(here, "INSERT INTO erp5.t VALUES (1)")
    assert time.monotonic() - began >= 1
    assert judge(here).sentences == (
        "semi-sync replication is off, as no replica has acknowledged within 1 s or since this database became a "
        "primary (connected now: 0), expected it on, as semi-sync.enable is true: writes are acknowledged that no "
        f"replica may have; {REMEDY}",
    )
    servers.query(here, "INSERT INTO erp5.t VALUES (2)")
    assert numbers(here) == {1, 2} and numbers(there) == set()
    servers.query(there, "START SLAVE IO_THREAD")
    servers.wait_for(lambda: judge(here).good, "semi-sync replication to be on again")
    pair.wait()
    assert numbers(there) == {1, 2}


# ---- changes of role, restarts


def test_a_new_primary_does_not_wait_and_a_new_replica_does_not_hang(pair):
    """The two change places by hand, as the actions do it; whoever waits, waits for long."""
    for service in (pair.primary, pair.replica):
        ask(service, timeout=servers.PATIENCE)
    settle(pair)
    here, there = pair.primary.config, pair.replica.config
    servers.query(here, "SET GLOBAL read_only = 1")
    assert not semi_sync.follow(here)
    pair.wait()
    servers.query(there, "STOP SLAVE")
    servers.query(there, "RESET SLAVE ALL")
    servers.query(there, "SET GLOBAL read_only = 0")
    with servers.administrator(there) as connection:
        semi_sync.apply(connection, there, semi_sync.PRIMARY)
    assert state(there) == sql_semi_sync.State(False, False, 0, servers.PATIENCE * 1000, "AFTER_SYNC", False, False)
    began = time.monotonic()
    servers.query(there, "INSERT INTO erp5.t VALUES (1)")
    assert time.monotonic() - began < servers.PATIENCE
    assert judge(there).sentences[-1].startswith("semi-sync replication is off, as no replica has acknowledged")
    where = address(there)
    with servers.administrator(here) as connection:
        semi_sync.apply(connection, here, semi_sync.REPLICA)
        change = (
            "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s,"
            " MASTER_USE_GTID = slave_pos, MASTER_DEMOTE_TO_SLAVE = 1, MASTER_SSL = 1, MASTER_SSL_CERT = %s,"
            " MASTER_SSL_KEY = %s"
        )
        mine = str(there.tls / "client.pem")
        sql.execute(connection, change, (where.host, where.port, where.user, where.password, mine, mine))
        sql.execute(connection, "START SLAVE")
    assert (state(here).awaits, state(here).acknowledges) == (False, True)

    def turned() -> bool:
        semi_sync.follow(there)
        return state(there).active and state(there).clients == 1

    servers.wait_for(turned, "semi-sync replication the other way round")
    servers.query(there, "INSERT INTO erp5.t VALUES (2)")
    servers.wait_for(lambda: numbers(here) == {1, 2}, "the rows on the old primary")


def test_a_restart_keeps_it_and_no_private_server_has_it(pair):
    here, there = pair.primary.config, pair.replica.config
    pair.replica.restart()
    assert there.server_options.read_text() == (
        "--read-only=ON\n--rpl-semi-sync-slave-enabled=ON\n--rpl-semi-sync-slave-kill-conn-timeout=1\n"
    )
    pair.wait()
    assert (state(there).awaits, state(there).acknowledges, state(there).acknowledging) == (False, True, True)
    pair.primary.restart()
    assert here.server_options.read_text() == (
        "--rpl-semi-sync-master-enabled=ON\n--rpl-semi-sync-master-timeout=1000\n"
        "--rpl-semi-sync-master-wait-point=AFTER_SYNC\n"
    )
    assert state(here).awaits and state(here).timeout == 1000
    pair.primary.end()
    with private_server.of(here, here.data_directory) as socket, sql.connect(here.defaults_file, socket) as connection:
        assert not sql_semi_sync.state(connection).awaits
