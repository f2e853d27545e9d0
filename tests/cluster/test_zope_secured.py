# SPDX-License-Identifier: GPL-2.0-or-later
"""Zopes on a NEO cluster with TLS, and with a MariaDB, by what both publish alone."""

import re
from collections.abc import Iterator

import pytest

from slapos.recipe.erp5.zope.standby_decide import SERVING, WAITING
from tests import zope_pages
from tests.cluster import neo, zope
from tests.cluster.neo import Cluster, destroyed_at_the_end
from tests.cluster.node import Instance, Node, eventually
from tests.cluster.zope import Zopes, zodb_of

NAME = "zope-secured"


@pytest.fixture(scope="module")
def cluster(node: Node) -> Iterator[Cluster]:
    with destroyed_at_the_end(node, NAME):
        yield neo.deploy(node, NAME, ssl={"enable": True})


@pytest.fixture(scope="module")
def urls(pair: tuple[Instance, Instance]) -> list[str]:
    """Of two databases of a MariaDB."""
    return pair[0].published["test-database-list"]


@pytest.fixture(scope="module")
def zopes(node: Node, cluster: Cluster, urls: list[str]) -> Iterator[Zopes]:
    zodb = {**zodb_of(cluster), "neo-certificate-url": cluster.published["neo-certificate-url"]}
    made = zope.deploy(node, "zope-of-secured", zodb, families={"web": {}}, mysql_url_list=urls)
    yield made
    node.destroy(made)


def database(zopes: Zopes, connection: str) -> str:
    """Which one Zope asks by a connection."""
    page = zope_pages.get(zopes.config, f"/{connection}/manage_test", "web-0", query="SELECT DATABASE() AS found")
    assert page.status == 200, page
    (found,) = re.findall(r"<td[^>]*>\s*(.*?)\s*</td>", page.body, re.DOTALL)
    return found


def test_they_serve_by_what_is_published(zopes: Zopes, urls: list[str]):
    zopes.wait(SERVING)
    zopes.write("kept by a cluster with TLS")
    zopes.wait_until_green()
    said = zopes.promises()["zope-certificates"][1]
    assert said.startswith("certificates and revocation lists are valid: client.pem until ")
    assert [database(zopes, name) for name in ("mysql_0", "mysql_1")] == [url.rpartition("/")[2] for url in urls]


def test_another_list_reaches_the_zopes(zopes: Zopes, urls: list[str]):
    zopes.request({**zopes.parameters, "mysql-url-list": urls[::-1]})
    pid = zopes.wait(SERVING).child_pid
    zopes.process()
    zopes.wait(SERVING, but=lambda one: one.child_pid != pid)
    assert [database(zopes, name) for name in ("mysql_1", "mysql_0")] == [url.rpartition("/")[2] for url in urls]
    assert zopes.read() == "kept by a cluster with TLS"


def test_a_certificate_that_is_lost_is_waited_for_and_comes_back(node: Node, zopes: Zopes):
    group = f"{zopes.path.name}:*"
    assert node.slapos("supervisorctl", "stop", group).returncode == 0
    for name in ("ca.pem", "client.pem", "crl.pem", "trusted.pem"):
        (zopes.path / "srv" / "tls" / name).unlink()
    (standby,) = (zopes.path / "etc" / "run").iterdir()
    assert node.slapos("supervisorctl", "start", f"{zopes.path.name}:{standby.name}").returncode == 0
    zopes.wait(WAITING, but=lambda one: one.reason == f"it has no certificate of the NEO cluster {NAME} yet")
    assert zopes.get().status == 503
    assert node.slapos("supervisorctl", "start", group).returncode == 0
    zopes.wait(SERVING)
    assert zopes.read() == "kept by a cluster with TLS"
    eventually(lambda: not zopes.promises()["zope-certificates"][0], "the promise is green")
