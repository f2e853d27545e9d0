# SPDX-License-Identifier: GPL-2.0-or-later
"""What a primary says when it is asked as replicas ask: over TCP, with TLS or plain, whether they can follow it."""

from collections.abc import Iterator

import pytest

from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import sql, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers
from tests.service.replication_fixtures import address, temporary_partition

TIMEOUT = 10
PURGED = (
    "Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old and required"
    " binlog files have been purged. (1236)"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Config]:
    """A running primary with some transactions."""
    with temporary_partition() as config, servers.running(config):
        servers.query(config, "CREATE TABLE erp5.t (a INT)")
        for number in range(5):
            servers.query(config, "INSERT INTO erp5.t VALUES (%s)", number)
        yield config


def ask(config: Config, gtid: str, **changes: object) -> str:
    with sql_replication.connect_primary(address(config, **changes), Files(config.tls), TIMEOUT) as connection:
        return sql_replication.can_follow(connection, gtid)


# ---- connecting


def test_facts_are_had_over_tls_as_the_replication_account(server):
    with sql_replication.connect_primary(address(server), Files(server.tls), TIMEOUT) as connection:
        facts = sql_replication.server_facts(connection)
    position, state = servers.query(server, "SELECT @@gtid_binlog_pos, @@gtid_binlog_state")[0]
    assert facts == sql_replication.Facts(
        version=facts.version,
        server_id=server.server_id,
        domain_id=0,
        binlog_pos=position,
        binlog_state=state,
        slave_pos="",
        strict=True,
        read_only=False,
        encrypted=True,
    )
    assert facts.version.startswith("10.11.")


def test_the_account_needs_a_certificate(server):
    with pytest.raises(sql.AccessDenied) as raised:
        sql_replication.connect_primary(address(server), None, TIMEOUT)
    assert str(raised.value) == (
        f"cannot connect to MariaDB on 127.0.0.1:{server.network.port}: Access denied for user"
        " 'replication_user'@'127.0.0.1' (using password: YES) (1045)"
    )


def test_without_tls_where_it_is_off():
    with temporary_partition(replicas_use_tls=False) as config, servers.running(config):
        connection = sql_replication.connect_primary(address(config), None, TIMEOUT)
        with connection:
            assert not sql_replication.server_facts(connection).encrypted


def test_a_wrong_password_and_a_wrong_port_are_told_without_the_password(server):
    for changes, end in (
        ({"password": "wrong-secret"}, "(using password: YES) (1045)"),
        ({"port": servers.free_port()}, "[Errno 111] Connection refused) (2003)"),
    ):
        with pytest.raises(ServerError) as raised:
            sql_replication.connect_primary(address(server, **changes), Files(server.tls), TIMEOUT)
        assert str(raised.value).endswith(end)
        assert "secret" not in str(raised.value)


def test_another_authority_s_server_is_refused(server):
    with temporary_partition() as other, pytest.raises(ServerError) as raised:
        sql_replication.connect_primary(address(server), Files(other.tls), TIMEOUT)
    assert "certificate verify failed" in str(raised.value)


def test_missing_certificates_are_named(server, tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        sql_replication.connect_primary(address(server), Files(tmp_path), TIMEOUT)
    assert str(raised.value) == (
        f"the certificates in {tmp_path} cannot be used (No such file or directory), expected ca.pem, crl.pem and"
        " client.pem: mariadb-control makes them, read the promise mariadb-certificates"
    )


# ---- can it be followed


def test_complete_logs_can_be_followed_from_the_beginning_from_the_middle_and_from_the_end(server):
    position = servers.query(server, "SELECT @@gtid_binlog_pos")[0][0]
    domain, server_id, sequence = position.split("-")
    assert ask(server, "") == ""
    assert ask(server, position) == ""
    assert ask(server, f"{domain}-{server_id}-{int(sequence) - 2}") == ""


def test_a_position_ahead_of_the_primary_cannot_be_followed(server):
    domain, server_id, sequence = servers.query(server, "SELECT @@gtid_binlog_pos")[0][0].split("-")
    ahead = f"{domain}-{server_id}-{int(sequence) + 7}"
    assert ask(server, ahead) == (
        f"Error: connecting slave requested to start from GTID {ahead}, which is not in the master's binlog (1236)"
    )


def test_a_transaction_of_another_server_that_the_primary_lacks_cannot_be_followed(server):
    domain, _, sequence = servers.query(server, "SELECT @@gtid_binlog_pos")[0][0].split("-")
    errant = f"{domain}-99-{int(sequence)}"
    assert "(1236)" in ask(server, errant)


def test_a_domain_that_the_primary_never_had_is_no_hindrance_for_mariadb(server):
    """So whoever asks has to compare positions too (bootstrap_decide.ahead)."""
    position = servers.query(server, "SELECT @@gtid_binlog_pos")[0][0]
    assert ask(server, f"{position},7-99-3") == ""


def test_purged_logs_cannot_be_followed_from_before(server):
    before = servers.query(server, "SELECT @@gtid_binlog_pos")[0][0]
    servers.query(server, "INSERT INTO erp5.t VALUES (100)")
    for _ in range(2):
        servers.query(server, "FLUSH BINARY LOGS")
    servers.query(server, "INSERT INTO erp5.t VALUES (101)")
    newest = servers.query(server, "SHOW MASTER STATUS")[0][0]
    servers.query(server, "PURGE BINARY LOGS TO %s", newest)
    for gtid in ("", before):
        assert ask(server, gtid) == PURGED
    assert ask(server, servers.query(server, "SELECT @@gtid_binlog_pos")[0][0]) == ""


def test_asking_needs_the_privilege_of_replicas(server):
    servers.query(server, "CREATE USER weak@'%.%.%.%' IDENTIFIED BY 'weak'")
    said = ask(server, "", user="weak", password="weak")
    servers.query(server, "DROP USER weak@'%.%.%.%'")
    assert said == (
        "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s) for this operation (1227)"
    )
