# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates between a primary and its replica: which do, which do not, and that a good one mends it by itself."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls.files import CLIENT_NAME, Files
from tests.service import servers
from tests.service.authority import DAY, Authority
from tests.service.replication_fixtures import Pair, running_pair

REFUSED_BY_PRIMARY, REFUSED_BY_REPLICA = (1045, 2013, 2026), (2026,)

AUTHORITY, OTHER = Authority(), Authority("another authority")


def issued(name: str, *ips: str, until: datetime | None = None, revoked: bool = False) -> str:
    """Key and certificate of the authority that both sides know; a revoked one is on its next list."""
    pem = AUTHORITY.issue(name, *ips, until=until)
    if revoked:
        AUTHORITY.revoke(pem)
    return pem


def for_server(ip: str = "127.0.0.1", until: datetime | None = None, revoked: bool = False) -> str:
    return issued("mariadb", ip, until=until, revoked=revoked)


def for_client(name: str = CLIENT_NAME, until: datetime | None = None, revoked: bool = False) -> str:
    return issued(name, until=until, revoked=revoked)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_pair() as made:
        yield made


def use(pair: Pair, server: str, client: str, ca: str = "") -> None:
    """Give both sides these certificates, without a restart, and let the replica connect again."""
    here, there = Files(pair.primary.config.tls), Files(pair.replica.config.tls).upstream
    for where, content in (
        (here.ca, AUTHORITY.ca()),
        (here.crl, AUTHORITY.crl()),
        (here.server, server),
        (there.ca, ca or AUTHORITY.ca()),
        (there.crl, OTHER.crl() if ca else AUTHORITY.crl()),
        (there.client, client),
    ):
        process.write_atomically(where, content)
    servers.query(pair.primary.config, "FLUSH SSL")
    servers.query(pair.replica.config, "STOP SLAVE")
    servers.query(pair.replica.config, "START SLAVE")


def handshakes(config: Config) -> int:
    (row,) = servers.query(config, "SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'")
    return int(row[1])


def connected(pair: Pair) -> bool:
    return pair.source().io.running == "Yes"


def refused(pair: Pair) -> bool:
    source = pair.source()
    return source.io.running == "Connecting" and source.io.number != 0


EXPIRED = times.now() - DAY


@pytest.mark.parametrize(
    "server, client, ca, numbers",
    [
        ({}, {"until": EXPIRED}, "", REFUSED_BY_PRIMARY),
        ({}, {"revoked": True}, "", REFUSED_BY_PRIMARY),
        ({}, {"name": "somebody-else"}, "", REFUSED_BY_PRIMARY),
        ({"until": EXPIRED}, {}, "", REFUSED_BY_REPLICA),
        ({"revoked": True}, {}, "", REFUSED_BY_REPLICA),
        ({"ip": "127.0.0.9"}, {}, "", REFUSED_BY_REPLICA),
        ({}, {}, "another", REFUSED_BY_REPLICA),
    ],
    ids=[
        "client expired",
        "client revoked",
        "client with another subject",
        "server expired",
        "server revoked",
        "server of another address",
        "another authority",
    ],
)
def test_a_bad_certificate_is_refused_and_a_good_one_mends_it(pair, server, client, ca, numbers):
    bad = for_server(**server), for_client(**client)
    use(pair, *bad, OTHER.ca() if ca else "")
    servers.wait_for(lambda: refused(pair), "a refusal")
    assert pair.source().io.number in numbers, pair.source()
    # No START SLAVE: the replica tries again by itself.
    good = Files(pair.replica.config.tls).upstream
    for path, content in (
        (good.ca, AUTHORITY.ca()),
        (good.crl, AUTHORITY.crl()),
        (good.client, for_client()),
        (Files(pair.primary.config.tls).server, for_server()),
    ):
        process.write_atomically(path, content)
    servers.query(pair.primary.config, "FLUSH SSL")
    servers.wait_for(lambda: connected(pair), "the replica to come back")
    assert_rows_arrive(pair)


def assert_rows_arrive(pair: Pair) -> None:
    servers.query(pair.primary.config, "CREATE OR REPLACE TABLE erp5.proof (a INT)")
    servers.query(pair.primary.config, "INSERT INTO erp5.proof VALUES (42)")
    pair.wait()
    assert servers.query(pair.replica.config, "SELECT a FROM erp5.proof") == [(42,)]


def test_the_replica_s_connection_is_encrypted(pair):
    use(pair, for_server(), for_client())
    servers.wait_for(lambda: connected(pair), "the replica to connect")
    before = handshakes(pair.primary.config)
    servers.query(pair.replica.config, "STOP SLAVE")
    servers.query(pair.replica.config, "START SLAVE")
    servers.wait_for(lambda: connected(pair), "the replica to connect again")
    assert handshakes(pair.primary.config) == before + 1


def test_without_tls_the_replica_s_connection_is_not_encrypted():
    with running_pair(replicate_with_tls=False) as plain:
        assert (connected(plain), plain.source().tls) == (True, False)
        assert_rows_arrive(plain)
        assert handshakes(plain.primary.config) == 0
