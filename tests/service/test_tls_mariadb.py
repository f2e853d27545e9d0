# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mariadbd with certificates of a real authority: whom it lets in, and that nothing needs a restart."""

import dataclasses
import shutil
import ssl
from datetime import timedelta

import pymysql
import pytest
from caucase import ca, storage
from caucase.client import CaucaseClient

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.mariadb import primary as primaries
from slapos.recipe.erp5.mariadb import sql
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.mariadb.tls import Certificates, giver
from slapos.recipe.erp5.tls import authority, certificates, files, join, own, renew, template
from slapos.recipe.erp5.tls.context import client_context
from slapos.recipe.erp5.tls.files import CLIENT_SUBJECT, Files
from tests.service import servers, tls_fixtures
from tests.service.test_tls_join import replication

USER, PASSWORD = "checked", "checked-secret"
CUT = "Lost connection|gone away|reset"
"""With TLS 1.3 a client is not told why its certificate is refused, only that the connection ended."""


@pytest.fixture
def primary(complete):
    """A running primary with its authority and real certificates, and an account that requires replicas' subject."""
    config = complete.config
    with tls_fixtures.authority(config):
        complete.run()
        assert tls_fixtures.renew_now(config) == 0
        for statement in (
            f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SUBJECT '{CLIENT_SUBJECT}'",
            f"GRANT REPLICATION SLAVE ON *.* TO '{USER}'@'%'",
        ):
            servers.query(config, statement)
        yield config


def login(config, where):
    """Log in over TCP with the client's files in the folder `where`; returns the server's certificate."""
    connection = pymysql.connect(
        host=config.network.ipv4,
        port=config.network.port,
        user=USER,
        password=PASSWORD,
        ssl=client_context(where, TERMS),
    )
    with connection:
        assert sql.execute(connection, "SHOW STATUS LIKE 'Ssl_version'")[0][1].startswith("TLSv1.")
        return connection._sock.getpeercert(True)


def folder(config, name, client):
    """A folder with the authority's files and another client's key and certificate."""
    where = Files(config.path("srv", name))
    where.folder.mkdir(exist_ok=True)
    own_files = Files(config.tls)
    where.ca.write_text(own_files.ca.read_text())
    where.crl.write_text(own_files.crl.read_text())
    where.client.write_text(client)
    return where


def served(config):
    """The certificate that mariadbd shows to new connections."""
    return login(config, Files(config.tls))


def on_disk(config):
    return ssl.PEM_cert_to_DER_cert(certificates.parts(Files(config.tls).server.read_text(), "CERTIFICATE")[0])


def revoke(config, text):
    client = CaucaseClient(f"{own.url(config)}/cas", user_key=str(own.user(config)))
    client.revokeCertificate(certificates.parts(text, "CERTIFICATE")[0].encode())


def test_a_replicas_certificate_is_let_in(primary, capsys):
    assert served(primary) == on_disk(primary)
    capsys.readouterr()
    assert tls_fixtures.renew_now(primary) == 0
    assert capsys.readouterr().err == ""  # nothing is loaded twice


def test_who_has_no_certificate_is_refused(primary):
    context = ssl.create_default_context(cafile=str(Files(primary.tls).ca))
    with pytest.raises(pymysql.OperationalError) as caught:
        pymysql.connect(host="127.0.0.1", port=primary.network.port, user=USER, password=PASSWORD, ssl=context)
    assert caught.value.args[0] == 1045


def test_a_servers_certificate_is_no_clients(primary):
    text = authority.issue(primary, template.server(primary))
    with pytest.raises(pymysql.OperationalError, match=CUT):
        login(primary, folder(primary, "other", text))


def test_a_wrong_subject_is_refused(primary):
    text = authority.issue(primary, template.Template("slapos-replication-clients"))
    with pytest.raises(pymysql.OperationalError) as caught:
        login(primary, folder(primary, "other", text))
    assert caught.value.args[0] == 1045


def expired(config):
    """A replica's certificate of the primary's own authority, of which the whole life is over."""
    made = ca.CertificateAuthority(
        storage=storage.SQLite3Storage(db_path=str(own.database(config)), table_prefix="cas"),
        crt_life_time=5 / 86400,  # caucase begins a certificate's life 10 s ago
    )
    key = files.new_key()
    number = made.appendCertificateSigningRequest(template.request(template.CLIENT, key).encode(), override_limits=True)
    made.createCertificate(number)
    return files.key_text(key) + made.getCertificate(number).decode()


def test_an_expired_one_is_refused(primary):
    text = expired(primary)
    where = folder(primary, "other", text)
    with pytest.raises(pymysql.OperationalError, match=CUT):
        login(primary, where)
    assert join.needs_join(where, times.now()).startswith("the certificate expired at ")


def test_one_of_another_authority_is_refused(primary, make_partition):
    other = make_partition()
    with tls_fixtures.authority(other):
        text = authority.issue(other, template.CLIENT)
    where = folder(primary, "other", text)
    with pytest.raises(pymysql.OperationalError, match=CUT):
        login(primary, where)
    assert join.needs_join(where, times.now()) == "the certificate is not signed by the authority that we know"


def test_a_server_of_another_authority_or_with_another_address_is_refused(primary, make_partition):
    placeholder = make_partition()
    where = Files(placeholder.tls)
    where.client.write_text(authority.issue(primary, template.CLIENT))
    with pytest.raises(pymysql.OperationalError, match="certificate verify failed"):
        login(primary, where)
    elsewhere = authority.issue(primary, template.Template("mariadb", frozenset({"127.0.0.9"})))
    Files(primary.tls).server.write_text(elsewhere)
    renew.load(Certificates(primary))
    with pytest.raises(pymysql.OperationalError, match="IP address mismatch"):
        login(primary, Files(primary.tls))


def test_revocation_takes_effect_without_a_restart(primary, capsys):
    text = authority.issue(primary, template.CLIENT)
    where = folder(primary, "other", text)
    login(primary, where)
    started = mariadbd(primary)
    revoke(primary, text)
    assert tls_fixtures.renew_now(primary) == 0
    with pytest.raises(pymysql.OperationalError, match=CUT):
        login(primary, where)
    served(primary)  # all others still are let in
    assert mariadbd(primary) == started
    where.crl.write_text(Files(primary.tls).crl.read_text())
    assert join.needs_join(where, times.now()) == "the certificate is revoked"


def mariadbd(config):
    return config.path("var", "run", "mariadb.pid").read_text()


def test_the_servers_own_revocation_is_noticed_by_clients_and_mended(primary):
    before = Files(primary.tls).server.read_text()
    revoke(primary, before)
    assert tls_fixtures.renew_now(primary) == 0
    assert served(primary) == on_disk(primary)
    assert Files(primary.tls).server.read_text() != before


def test_renewal_without_a_restart_and_unlogged(primary, capsys):
    before, started = served(primary), mariadbd(primary)
    position = servers.query(primary, "SELECT @@gtid_binlog_pos")
    later = times.now() + timedelta(days=63)
    assert renew.Run(Certificates(primary), later).complete() == 0
    assert "server.pem: a new certificate, as 32% of its life is left" in capsys.readouterr().err
    assert served(primary) == on_disk(primary) != before
    assert mariadbd(primary) == started
    assert servers.query(primary, "SELECT @@gtid_binlog_pos") == position


def test_nothing_is_due_before_a_third(primary):
    before = {path: path.read_text() for path in Files(primary.tls).folder.glob("*.pem")}
    assert renew.Run(Certificates(primary), times.now() + timedelta(days=61)).complete() == 0
    assert {path: path.read_text() for path in before} == before


def test_a_new_address_gets_a_new_certificate(primary):
    changed = dataclasses.replace(primary, network=dataclasses.replace(primary.network, ipv6="::1"))
    assert renew.Run(Certificates(changed), times.now()).complete() == 0
    made = certificates.pair(Files(primary.tls).server.read_text()).certificate
    assert certificates.ips(made) == {"127.0.0.1", "::1"}


def test_what_could_not_be_loaded_is_loaded_the_next_time(primary, capsys, monkeypatch):
    before = served(primary)
    later = times.now() + timedelta(days=63)

    def fails(connection):
        raise sql.ServerError("MariaDB refused FLUSH NO_WRITE_TO_BINLOG: no memory (1)")

    with monkeypatch.context() as patched:
        patched.setattr(sql, "flush_ssl", fails)
        assert renew.Run(Certificates(primary), later).complete() == 1
        assert served(primary) == before
    capsys.readouterr()
    assert tls_fixtures.renew_now(primary) == 0
    assert capsys.readouterr().err.endswith("MariaDB reads the certificates anew\n")
    assert served(primary) == on_disk(primary) != before


def test_a_dead_authority_changes_nothing(primary, capsys):
    external = dataclasses.replace(primary.network, caucased_port=servers.free_port())
    dead = dataclasses.replace(primary, network=external)
    before = {path: path.read_text() for path in Files(primary.tls).folder.glob("*.pem")}
    capsys.readouterr()
    assert renew.Run(Certificates(dead), times.now() + timedelta(days=63)).complete() == 1
    assert capsys.readouterr().err.partition(" error: ")[2] == (
        f"cannot learn about certificates and revocations: the certificate authority {own.url(dead)} does not answer "
        "(Connection refused), expected it to run and be reachable\n"
    )
    assert {path: path.read_text() for path in before} == before


# ---- a replica of it


@pytest.fixture
def replica(primary, created, make_partition):
    """A running server that replicates from the primary with the certificate that it got for the password."""
    config = make_partition()
    shutil.copytree(created.data_directory, config.data_directory)
    with tls_fixtures.endpoint(primary), tls_fixtures.authority(config):
        given = tls_fixtures.published(primary)
        config = dataclasses.replace(config, replication=replication(primary_url=primaries.url(given)))
        join.join(giver(config, given))
        with servers.running(config):
            follow(config, primary)
            yield config


def follow(config, primary):
    where = Files(config.tls).upstream
    servers.query(config, "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos")
    servers.query(
        config,
        "CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s, MASTER_SSL=1,"
        " MASTER_SSL_CA=%s, MASTER_SSL_CRL=%s, MASTER_SSL_CERT=%s, MASTER_SSL_KEY=%s, MASTER_SSL_VERIFY_SERVER_CERT=1,"
        " MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
        *(primary.network.ipv4, primary.network.port, USER, PASSWORD),
        *map(str, (where.ca, where.crl, where.client, where.client)),
    )
    connect(config)


def connect(config):
    """Make the replica connect anew, and wait until it has."""
    servers.query(config, "STOP SLAVE")
    servers.query(config, "START SLAVE")
    servers.wait_for(lambda: state(config)["Slave_IO_Running"] == "Yes", "a connection to the primary")


def state(config):
    with servers.administrator(config) as connection:
        return sql.rows(connection, "SHOW SLAVE STATUS")[0]


def arrives(primary, config, name):
    servers.query(primary, f"CREATE DATABASE {name}")
    servers.wait_for(lambda: servers.query(config, "SHOW DATABASES LIKE %s", name), f"{name} on the replica")


def test_replication_with_a_certificate_that_is_renewed(primary, replica, capsys):
    arrives(primary, replica, "written_first")
    old = Files(replica.tls).upstream.client.read_text()
    assert renew.Run(Certificates(replica), times.now() + timedelta(days=63)).complete() == 0
    said = capsys.readouterr().err
    assert "upstream/client.pem: a new certificate, as 32% of its life is left" in said
    assert Files(replica.tls).upstream.client.read_text() != old
    connect(replica)
    arrives(primary, replica, "written_later")


def test_a_replica_that_knows_the_password_replaces_a_revoked_certificate(primary, replica, capsys):
    revoke(primary, Files(replica.tls).upstream.client.read_text())
    assert tls_fixtures.renew_now(primary) == 0
    servers.query(replica, "STOP SLAVE")
    servers.query(replica, "START SLAVE")
    servers.wait_for(lambda: state(replica)["Last_IO_Error"], "a refusal")
    assert "Lost connection to server" in state(replica)["Last_IO_Error"]
    capsys.readouterr()
    assert tls_fixtures.renew_now(replica) == 0
    assert "upstream/client.pem: a new certificate, as the certificate is revoked" in capsys.readouterr().err
    connect(replica)
    arrives(primary, replica, "written_later")


def test_what_was_a_replica_needs_no_dead_authority(primary, replica, capsys):
    Files(replica.tls).upstream.authority.write_text('{"caucased-url": "http://127.0.0.1:9", "endpoint": ""}')
    assert tls_fixtures.renew_now(replica) == 1
    assert "error: cannot learn about certificates and revocations: the certificate authority http://127.0.0.1:9" in (
        capsys.readouterr().err
    )
    servers.query(replica, "STOP SLAVE")
    servers.query(replica, "RESET SLAVE ALL")
    assert tls_fixtures.renew_now(replica) == 0
