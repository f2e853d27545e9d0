# SPDX-License-Identifier: GPL-2.0-or-later
"""nginx as it is deployed: a replica gets its certificate through it, and renewal and revocation need no restart."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from caucase.client import CaucaseClient

from slapos.recipe.erp5 import nginx, times
from slapos.recipe.erp5.control import web
from slapos.recipe.erp5.mariadb import manifest, offer
from slapos.recipe.erp5.mariadb.service import SERVICE
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.mariadb.tls import Certificates, giver
from slapos.recipe.erp5.tls import certificates, join, own, renew, status
from slapos.recipe.erp5.tls.context import client_context
from slapos.recipe.erp5.tls.files import Files
from tests.service import tls_fixtures
from tests.service.backup_fixtures import TOKEN, Partition, new_partition, wait_until
from tests.service.test_backup_http import ONE, TWO, ask
from tests.service.test_backup_https import REVOKED
from tests.service.tls_fixtures import published
from tests.unit.mariadb import partition as unit

__all__ = ["new_partition"]


@pytest.fixture
def primary(new_partition) -> Iterator[Partition]:
    """A partition with two offered backups, its authority and real certificates; nginx, and what signs behind it."""
    made = new_partition()
    unit.add_backups(made.config, 2)
    offer.update(made.config)
    with tls_fixtures.authority(made.config):
        assert tls_fixtures.renew_now(made.config) == 0
        made.nginx = made.start_nginx()
        server = web.Server(made.config.control_socket, web.Application(SERVICE, made.json))
        yield made
        server.stop()


def shows(partition: Partition) -> str:
    """The fingerprint of the certificate that nginx shows, empty when it does not answer."""
    return status.seen(Certificates(partition.config).looks())[1].fingerprint


def listed(partition: Partition, where: Files) -> tuple[int, bytes]:
    """What nginx answers to a replica with the files `where` that asks for the list of backups."""
    return ask(partition, f"/{TOKEN}/", context=client_context(where, TERMS))[::2]


def test_a_new_certificate_and_a_revocation(primary, make_partition):
    before, replica = shows(primary), make_partition()
    where = Files(replica.tls).upstream
    join.join(giver(replica, published(primary.config)))
    code, body = listed(primary, where)
    assert (code, manifest.parse(body.decode(), "M")) == (200, (ONE, TWO))

    assert renew.Run(Certificates(primary.config), times.now() + timedelta(days=63)).complete() == 0
    own_server = Files(primary.config.tls).server
    wait_until(lambda: shows(primary) == status.fingerprint(own_server) != before, "the new certificate")
    assert listed(primary, where) == (code, body)

    client = CaucaseClient(f"{own.url(primary.config)}/cas", user_key=str(own.user(primary.config)))
    client.revokeCertificate(certificates.parts(where.client.read_text(), "CERTIFICATE")[0].encode())
    assert tls_fixtures.renew_now(primary.config) == 0
    wait_until(lambda: listed(primary, where) == (403, REVOKED), "the refusal of the revoked certificate")
    join.join(giver(replica, published(primary.config)))
    assert listed(primary, where) == (code, body)
    assert nginx.master(primary.config.nginx_pid) == primary.nginx.pid
