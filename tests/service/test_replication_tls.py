# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates between a primary and its replica: which do, which do not, and that a good one mends it by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import CLIENT_NAME, SERVER_NAME, Files
from tests.service import servers
from tests.service.replication_fixtures import Pair, running_pair

DAY = timedelta(days=1)
IPS = ("127.0.0.1",)
REFUSED_BY_PRIMARY, REFUSED_BY_REPLICA = (1045, 2013, 2026), (2026,)


@dataclass
class Authority:
    """A certificate authority, as both sides know it; `revoked` are serial numbers."""

    key: rsa.RSAPrivateKey = field(default_factory=files.new_key)
    revoked: list[int] = field(default_factory=list)
    name: x509.Name = field(default_factory=lambda: files.name("authority of a test"))

    def certificate(self, subject: x509.Name, key: rsa.RSAPrivateKey, until: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 30 * DAY)
            .not_valid_after(until)
        )

    def ca(self) -> str:
        basic = x509.BasicConstraints(ca=True, path_length=0)
        builder = self.certificate(self.name, self.key, times.now() + DAY).add_extension(basic, critical=True)
        return files.text(builder.sign(self.key, hashes.SHA256()))

    def crl(self) -> str:
        now = times.now()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - DAY)
        builder = builder.next_update(now + DAY)
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return files.text(builder.sign(self.key, hashes.SHA256()))

    def server(self, ips: tuple[str, ...] = IPS, until: datetime | None = None, revoked: bool = False) -> str:
        extension = files.addresses(ips)
        return self._signed(SERVER_NAME, extension, until, revoked)

    def client(self, name: str = CLIENT_NAME, until: datetime | None = None, revoked: bool = False) -> str:
        extension = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._signed(name, extension, until, revoked)

    def _signed(self, name: str, extension: x509.ExtensionType, until: datetime | None, revoked: bool) -> str:
        key = files.new_key()
        builder = self.certificate(files.name(name), key, until or times.now() + DAY)
        certificate = builder.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())
        if revoked:
            self.revoked.append(certificate.serial_number)
        return files.key_text(key) + files.text(certificate)


AUTHORITY, OTHER = Authority(), Authority(name=files.name("another authority"))


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
        ({"ips": ("127.0.0.9",)}, {}, "", REFUSED_BY_REPLICA),
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
    bad = AUTHORITY.server(**server), AUTHORITY.client(**client)
    use(pair, *bad, OTHER.ca() if ca else "")
    servers.wait_for(lambda: refused(pair), "a refusal")
    assert pair.source().io.number in numbers, pair.source()
    # No START SLAVE: the replica tries again by itself.
    good = Files(pair.replica.config.tls).upstream
    for path, content in (
        (good.ca, AUTHORITY.ca()),
        (good.crl, AUTHORITY.crl()),
        (good.client, AUTHORITY.client()),
        (Files(pair.primary.config.tls).server, AUTHORITY.server()),
    ):
        process.write_atomically(path, content)
    servers.query(pair.primary.config, "FLUSH SSL")
    servers.wait_for(lambda: connected(pair), "the replica to come back")
    servers.query(pair.primary.config, "CREATE OR REPLACE DATABASE proof")
    pair.wait()
    assert ("proof",) in servers.query(pair.replica.config, "SHOW DATABASES")


def test_the_replica_s_connection_is_encrypted(pair):
    use(pair, AUTHORITY.server(), AUTHORITY.client())
    servers.wait_for(lambda: connected(pair), "the replica to connect")
    before = handshakes(pair.primary.config)
    servers.query(pair.replica.config, "STOP SLAVE")
    servers.query(pair.replica.config, "START SLAVE")
    servers.wait_for(lambda: connected(pair), "the replica to connect again")
    assert handshakes(pair.primary.config) == before + 1


def test_without_tls_the_replica_s_connection_is_not_encrypted():
    with running_pair(replicate_with_tls=False) as plain:
        assert handshakes(plain.primary.config) == 0
