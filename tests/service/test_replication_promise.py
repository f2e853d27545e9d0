# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promises say of real replicas in real trouble, and that the lag stays known when the primary is gone."""

import dataclasses
import shutil
from collections.abc import Iterator
from datetime import timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import (
    accounts,
    replication_memory,
    replication_status,
    replication_verdict,
    status,
    verdict,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.replication_memory import Lag, Replicas, Seen
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.verdict import Verdict
from tests.service import servers
from tests.service.replication_fixtures import (
    Pair,
    address,
    note,
    replica_config,
    replica_service,
    running_pair,
    services,
)

__all__ = ["services"]

ANEW = replication_verdict.ANEW


@pytest.fixture
def pair() -> Iterator[Pair]:
    with running_pair() as made:
        servers.query(made.primary.config, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
        made.wait()
        yield made


def judge(config: Config) -> Verdict:
    now = times.now()
    return replication_verdict.replication(replication_status.gather(config, now), now)


def sentences(config: Config) -> tuple[str, ...]:
    """The problems there are."""
    judged = judge(config)
    assert not judged.good, judged
    return judged.sentences


def wait_for(pair: Pair, thread: str, running: str, number: int | None = None) -> str:
    """Until one of the replica's threads is so; returns MariaDB's words."""

    def there() -> bool:
        found = getattr(pair.source(), thread)
        return found.running == running and number in (None, found.number)

    servers.wait_for(there, f"the thread {thread} to be {running}, {number}")
    return str(getattr(pair.source(), thread))


def with_replication(config: Config, **changes: object) -> Config:
    assert config.replication
    return dataclasses.replace(config, replication=dataclasses.replace(config.replication, **changes))


# ---- all is well


def test_a_pair_that_is_well(pair):
    here, there = pair.primary.config, pair.replica.config
    position = servers.query(here, "SELECT @@gtid_binlog_pos")[0][0]
    where = address(here).address
    assert judge(there) == Verdict(True, (f"Mariadb replicates from {where} over TLS, 0 s behind, at GTID {position}",))
    assert judge(here) == Verdict(
        True, (f"Mariadb is a primary, at GTID {position}; connected replicas: {there.server_id}",)
    )
    assert verdict.server(status.server(there)).good and verdict.server(status.server(here)).good
    assert accounts.decide(accounts.gather(there)) == Verdict(
        True, ("each of the 0 published databases accepts its user",)
    )


def test_the_server_s_own_promise_is_let_in_with_its_certificate(pair):
    (sentence,) = verdict.server(status.server(pair.replica.config)).sentences
    where = f"{pair.replica.config.socket} and 127.0.0.1:{pair.replica.config.network.port}"
    assert f" answers on {where}, up for " in sentence and sentence.endswith(", read only")


# ---- the primary is gone, and comes back


def test_a_dead_primary_leaves_the_last_lag_known(pair):
    there = pair.replica.config
    where = address(pair.primary.config).address
    assert judge(there).good
    before = replication_memory.load(there.replication_memory, Lag)
    assert before.seconds == 0 and before.at
    pair.primary.kill()
    said = wait_for(pair, "io", "Connecting", 2003)
    (sentence,) = sentences(there)
    since = replication_memory.load(there.replication_memory, Lag).unknown_since
    assert sentence == (
        f"the thread that receives from {where} is trying to connect ({said}) since {since}, the last known lag is 0 s "
        f"at {before.at}, expected it to run: start the primary, or mend the way to it"
    )
    pair.primary.run()
    servers.query(pair.primary.config, "INSERT INTO erp5.t VALUES (1)")
    pair.wait()
    assert judge(there).good
    assert not replication_memory.load(there.replication_memory, Lag).unknown_since


# ---- what cannot go on


def purged(config: Config) -> bool:
    """Purge all binary logs but the last; whether that was possible, as one that is being sent stays."""
    servers.query(config, "PURGE BINARY LOGS TO %s", servers.query(config, "SHOW MASTER STATUS")[0][0])
    return len(servers.query(config, "SHOW BINARY LOGS")) == 1


def test_purged_logs(pair):
    here, there = pair.primary.config, pair.replica.config
    pair.replica.end()
    servers.query(here, "INSERT INTO erp5.t VALUES (1)")
    servers.query(here, "FLUSH BINARY LOGS")
    servers.query(here, "FLUSH BINARY LOGS")
    servers.wait_for(lambda: purged(here), "nobody to read the older binary logs any more")
    pair.replica.run()
    said = wait_for(pair, "io", "No", 1236)
    (sentence,) = sentences(there)
    assert sentence.startswith(f"the thread that receives from {address(here).address} is stopped ({said}) since ")
    assert "required binlog files have been purged" in sentence
    assert sentence.endswith(f", expected it to run: {ANEW}")


def test_an_errant_write_is_told_before_replication_breaks_and_after(pair):
    here, there = pair.primary.config, pair.replica.config
    where = address(here).address
    servers.query(there, "INSERT INTO erp5.t VALUES (77)")
    state = servers.query(there, "SELECT @@gtid_binlog_state")[0][0].split(",")
    (own,) = [one for one in state if f"-{there.server_id}-" in one]
    errant = (
        f"the replica has transactions of its own (GTID {own}), expected none but {where}'s: find out what was written "
        f"here, and {ANEW}"
    )
    assert sentences(there) == (errant,)
    servers.query(here, "INSERT INTO erp5.t VALUES (1)")
    said = wait_for(pair, "sql", "No", 1950)
    found = sentences(there)
    assert found[0] == (
        f"the thread that applies what came from {where} is stopped ({said}), expected it to run: {ANEW}"
    )
    assert found[1:] == (errant,)


def test_a_replica_that_is_ahead(pair, tmp_path):
    """The primary came back from an older copy of itself, so it lacks what the replica has."""
    here, there = pair.primary.config, pair.replica.config
    pair.primary.end()
    shutil.copytree(here.data_directory, tmp_path / "older")
    pair.primary.run()
    servers.query(here, "INSERT INTO erp5.t VALUES (1)")
    pair.wait()
    ahead = servers.query(there, "SELECT @@gtid_slave_pos")[0][0]
    pair.primary.end()
    shutil.rmtree(here.data_directory)
    shutil.copytree(tmp_path / "older", here.data_directory)
    pair.primary.run()
    said = wait_for(pair, "io", "No", 1236)
    found = sentences(there)
    where = address(here).address
    assert found[0].startswith(f"the thread that receives from {where} is stopped ({said}) since ")
    assert f"requested to start from GTID {ahead}, which is not in the master's binlog" in found[0]
    assert found[1:] == (
        f"the replica has transactions that {where} has not (GTID {ahead}), expected it not to be ahead of its "
        f"primary: find out whether {where} is the right one, and {ANEW}",
    )


def test_a_wrong_password(pair):
    here, there = pair.primary.config, pair.replica.config
    servers.query(here, "SET SESSION sql_log_bin = 0")
    with servers.administrator(here) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_log_bin = 0")
        cursor.execute("ALTER USER replication_user@'%.%.%.%' IDENTIFIED BY 'another-secret'")
    where = address(here).address
    (sentence,) = sentences(there)
    assert sentence == (
        f"the primary at {where} would not let us in again (cannot connect to MariaDB on {where}: Access denied for "
        "user 'replication_user'@'127.0.0.1' (using password: YES) (1045)), expected it to, as the connection that "
        f"there is may break: {replication_verdict.REMEDIES[1045]}"
    )
    servers.query(there, "STOP SLAVE")
    servers.query(there, "START SLAVE")
    said = wait_for(pair, "io", "Connecting", 1045)
    (sentence,) = sentences(there)
    assert sentence.startswith(f"the thread that receives from {where} is trying to connect ({said}) since ")
    assert sentence.endswith(f", expected it to run: {replication_verdict.REMEDIES[1045]}")
    assert "secret" not in sentence


def test_a_wrong_authority(pair):
    """As when the primary has been made anew, with another authority."""
    here, there = pair.primary.config, pair.replica.config
    upstream = files.Files(there.tls).upstream
    ca, crl, _, _ = files.placeholders("mariadb", ("127.0.0.1",), times.now())
    upstream.ca.write_text(ca)
    upstream.crl.write_text(crl)
    servers.query(there, "STOP SLAVE")
    servers.query(there, "START SLAVE")
    said = wait_for(pair, "io", "Connecting", 2026)
    (sentence,) = sentences(there)
    assert sentence.startswith(
        f"the thread that receives from {address(here).address} is trying to connect ({said}) since "
    )
    assert sentence.endswith(", expected it to run: read the promise mariadb-certificates, here and on the primary")


def test_a_certificate_without_the_subject(pair):
    """REQUIRE X509 would take any certificate of that authority; ours is one of another name."""
    there = pair.replica.config
    upstream = files.Files(there.tls).upstream
    shutil.copy(files.Files(pair.primary.config.tls).server, upstream.client)
    servers.query(there, "STOP SLAVE")
    servers.query(there, "START SLAVE")
    wait_for(pair, "io", "Connecting", 1045)
    (sentence,) = sentences(there)
    assert "Access denied for user 'replication_user'@'127.0.0.1'" in sentence


# ---- parameters that are no longer what they were


def test_parameters_that_differ_change_nothing_and_are_told(pair):
    there = pair.replica.config
    where = address(pair.primary.config)
    other = dataclasses.replace(where, port=where.port + 1)
    url = f"mysql://{other.user}:{other.password}@{other.address}"
    assert sentences(with_replication(there, primary_url=url)) == (
        f"Mariadb replicates from {where.address} as replication_user, expected {other.address} as replication_user, "
        "as replication.primary-url says, which takes effect at the database's creation alone: give what it replicates "
        "from, or change that with bin/mariadb-follow",
    )
    assert sentences(with_replication(there, replicate_with_tls=False)) == (
        "Mariadb replicates over TLS, expected without TLS, as replication.replicate-with-tls says, which takes effect "
        f"at the database's creation alone: give true there, or {ANEW}",
    )
    assert sentences(dataclasses.replace(there, replication=None)) == (
        f"Mariadb is in replica mode, with {where.address} as its primary, expected a primary, as there is no "
        "parameter replication, which takes effect at the database's creation alone: give replication.primary-url "
        "again to leave it a replica, or make it a primary with bin/mariadb-takeover",
    )
    assert judge(there).good


def test_a_primary_from_before_that_is_asked_to_be_a_replica(pair):
    here, there = pair.primary.config, pair.replica.config
    asked = dataclasses.replace(here, replication=there.replication)
    where = address(here).address
    assert sentences(asked) == (
        f"Mariadb is not in replica mode (it was made as a primary), expected a replica of {where}, as "
        "replication.primary-url says, which takes effect at the database's creation alone: take the parameter "
        f"replication away to leave it a primary, or {ANEW}",
    )
    servers.query(there, "STOP SLAVE")
    servers.query(there, "RESET SLAVE ALL")
    (sentence,) = sentences(there)
    assert sentence.startswith(
        f"Mariadb is not in replica mode (it was made as a replica of {where} and is none any more), expected "
    )


def test_settings_that_people_changed(pair):
    there = pair.replica.config
    servers.query(there, "SET GLOBAL read_only = OFF")
    (sentence,) = sentences(there)
    assert sentence.startswith("read_only is OFF on the replica, expected ON, ")
    pair.replica.restart()
    wait_for(pair, "io", "Yes")
    assert judge(there).good


def test_lag_is_told_above_the_threshold(pair):
    here, there = pair.primary.config, pair.replica.config
    with servers.administrator(there) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES erp5.t READ")
        servers.query(here, "INSERT INTO erp5.t VALUES (1)")
        strict = with_replication(there, seconds_behind_master_threshold=0)
        servers.wait_for(lambda: (pair.source().lag or 0) > 0, "the replica to lag")
        (sentence,) = sentences(strict)
        assert sentence.startswith("the replica is ") and " s behind " in sentence
        assert ", expected at most 0 s (replication.seconds-behind-master-threshold): " in sentence
        assert judge(with_replication(there, seconds_behind_master_threshold=-1)).good
    pair.wait()
    assert judge(strict).good


# ---- what a primary keeps


def test_a_replica_that_is_away_for_long_is_named_with_the_moment_its_logs_go(pair):
    here, there = pair.primary.config, pair.replica.config
    assert judge(here).good
    (seen,) = replication_memory.load(here.replicas_memory, Replicas).replicas
    assert seen.server_id == there.server_id
    pair.replica.end()
    servers.wait_for(lambda: "connected" not in judge(here).sentences[0], "the primary to notice")
    long_ago = times.now() - timedelta(days=5)
    replication_memory.save(here.replicas_memory, Replicas((Seen(there.server_id, times.text(long_ago)),)))
    assert sentences(here) == (
        f"the replica with server id {there.server_id} was last connected at {times.text(long_ago)}, 5 days ago, and "
        f"the binary logs that it needs go at {times.text(long_ago + timedelta(days=7))}, expected it back before: "
        "start it, or raise binlog-expire-days; if it is gone for good, it is forgotten then",
    )
    pair.replica.run()
    pair.wait()
    servers.wait_for(lambda: judge(here).good, "the replica to count as back")


# ---- no network, as asked


def test_a_replica_whose_network_is_off_as_asked_is_accepted():
    with running_pair(allow_tcp_connections_on_replica=False) as pair:
        there = pair.replica.config
        (sentence,) = verdict.server(status.server(there)).sentences
        assert sentence.endswith(", read only, its network off") and f"answers on {there.socket}, up for" in sentence
        assert judge(there).good
        allowed = with_replication(there, allow_tcp_connections_on_replica=True)
        assert verdict.server(status.server(allowed)) == Verdict(
            False,
            (
                f"the server on {there.socket} has its network off, expected it to listen on "
                f"127.0.0.1:{there.network.port}: mariadb-control restarts the service for that within two minutes; if"
                f" it does not, write restart into {there.service.fifo}",
            ),
        )


# ---- a host where nobody is


def test_a_wrong_host_is_told_and_mended_by_change_master(pair, make_partition, services):
    here = pair.primary.config
    wrong = address(here, host="127.0.0.77")
    config = replica_config(make_partition, here)
    url = f"mysql://{wrong.user}:{wrong.password}@{wrong.address}"
    config = with_replication(config, primary_url=url)
    servers.write_json(config)
    replica = services(replica_service(config, note(wrong)))
    replica.run()
    second = Pair(pair.primary, replica)
    said = wait_for(second, "io", "Connecting", 2003)
    (sentence,) = sentences(config)
    assert sentence.startswith(f"the thread that receives from {wrong.address} is trying to connect ({said}) since ")
    assert ", expected it to run: start the primary, or mend the way to it" in sentence
    assert "last known lag" not in sentence
    for statement in ("STOP SLAVE", "CHANGE MASTER TO MASTER_HOST = '127.0.0.1'", "START SLAVE"):
        servers.query(config, statement)
    second.wait()


# ---- how replicas are let in


@pytest.mark.parametrize(
    ("clause", "seen"),
    [
        ("NONE", "NONE"),
        ("SSL", "SSL"),
        ("SUBJECT '/CN=é' ISSUER '/CN=x' CIPHER 'y'", "SUBJECT '/CN=é' ISSUER '/CN=x' CIPHER 'y'"),
    ],
)
def test_an_account_that_asks_for_something_else(primary, clause, seen):
    required = f"REQUIRE SUBJECT '{files.CLIENT_SUBJECT}'"
    servers.query(primary, f"ALTER USER replication_user@'%.%.%.%' REQUIRE {clause}")
    (sentence,) = sentences(primary)
    assert sentence.startswith(f"the account replication_user@%.%.%.% has REQUIRE {seen}, expected {required}, as ")
    servers.query(primary, sentence.partition(": ")[2].partition(" in bin/mariadb")[0])
    assert judge(primary).good
