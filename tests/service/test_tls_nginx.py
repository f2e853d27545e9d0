# SPDX-License-Identifier: GPL-2.0-or-later
"""A real nginx with the partition's certificates: renewal and revocation reach it without a restart."""

import dataclasses
import os
import subprocess
from datetime import timedelta

import pytest
from caucase.client import CaucaseClient

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.mariadb import logs
from slapos.recipe.erp5.tls import certificates, endpoint, join, own, renew, status
from slapos.recipe.erp5.tls.files import Files
from tests.service import servers, tls_fixtures
from tests.service.tls_fixtures import published

SETTINGS = """
daemon off;
pid {run}/nginx.pid;
error_log {log}/nginx-error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {run}/b; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u;
  scgi_temp_path {run}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {tls}/server.pem;
    ssl_certificate_key {tls}/server.pem;
    ssl_client_certificate {tls}/ca.pem;
    ssl_crl {tls}/crl.pem;
    ssl_verify_client optional;
    location / {{ return 200 '{{"subject": "$ssl_client_s_dn", "verified": "$ssl_client_verify"}}'; }}
  }}
}}
"""


@pytest.fixture
def primary(config):
    with tls_fixtures.authority(config):
        assert tls_fixtures.renew_now(config) == 0
        yield config


@pytest.fixture
def nginx(primary):
    """The master's process number."""
    names = {"run": primary.path("var", "run"), "log": primary.path("var", "log"), "tls": primary.tls}
    settings = primary.path("etc", "nginx.conf")
    settings.write_text(SETTINGS.format(port=primary.network.backup_port, **names))
    program = f"{servers.part('nginx')}/sbin/nginx"
    command = [program, "-e", str(primary.path("var", "log", "e")), "-p", primary.partition, "-c", str(settings)]
    master = subprocess.Popen(command, env={"OPENSSL_CONF": os.devnull})
    try:
        servers.wait_for(lambda: logs.nginx_master(primary.nginx_pid) and shows(primary), "nginx")
        yield master.pid
    finally:
        master.terminate()
        master.wait(servers.PATIENCE)


def shows(config):
    """The fingerprint of the certificate that nginx shows, empty when it does not answer."""
    return status._shown(config)[1].fingerprint


def ask(config, where):
    base = f"https://127.0.0.1:{config.network.backup_port}"
    return endpoint.Endpoint(base, join.client_context(where)).ask("GET", "/")


def test_a_new_certificate_and_a_revocation(primary, nginx, make_partition):
    before, replica = shows(primary), make_partition()
    with tls_fixtures.endpoint(elsewhere(primary)) as other:
        base = f"https://127.0.0.1:{other.server.server_address[1]}"
        join.join(replica, published(primary, endpoint=base))
    where = Files(replica.tls).upstream
    assert ask(primary, where) == (200, {"subject": "CN=slapos-replication-client", "verified": "SUCCESS"})

    assert renew.Run(primary, times.now() + timedelta(days=63)).complete() == 0
    servers.wait_for(lambda: shows(primary) == status._fingerprint(Files(primary.tls).server) != before, "the new one")
    assert ask(primary, where)[0] == 200

    client = CaucaseClient(f"{own.url(primary)}/cas", user_key=str(own.user(primary)))
    client.revokeCertificate(certificates.parts(where.client.read_text(), "CERTIFICATE")[0].encode())
    assert tls_fixtures.renew_now(primary) == 0
    servers.wait_for(lambda: refused(primary, where), "the refusal of the revoked certificate")
    assert logs.nginx_master(primary.nginx_pid) == nginx


def elsewhere(config):
    """The same partition with another port for the endpoint: nginx has the usual one here."""
    network = dataclasses.replace(config.network, backup_port=servers.free_port())
    return dataclasses.replace(config, network=network)


def refused(config, where):
    """Whether nginx answers with its page for a certificate that it does not accept."""
    try:
        ask(config, where)
    except CertificateError as error:
        return "answers with HTTP status 400 and no JSON object" in str(error)
    return False
