# SPDX-License-Identifier: GPL-2.0-or-later
"""Zopes as clients of real clusters of NEO with TLS: none before there is a certificate, no restart for a new one."""

import dataclasses
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.neo import tls as neo_tls
from slapos.recipe.erp5.neo.config import CERTIFICATE_FILES
from slapos.recipe.erp5.tls import files, revoke, verdict
from slapos.recipe.erp5.zope import tls
from slapos.recipe.erp5.zope.config import Config, Neo
from slapos.recipe.erp5.zope.standby_decide import SERVING, WAITING
from tests.service.neo_tls_fixtures import HOST, Site, Sites
from tests.service.servers import PATIENCE, wait_for
from tests.service.zope_fixtures import Zopes, make_config


@pytest.fixture
def sites(partition: Path) -> Iterator[Sites]:
    made = Sites(partition)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def main(sites: Sites) -> Site:
    """A running cluster."""
    return sites.running("main")


@pytest.fixture
def zopes(partition: Path, main: Site) -> Iterator[Zopes]:
    """The Zopes of a partition on the cluster, which has no certificate yet."""
    folder = partition / "zope"
    made = Zopes(make_config(folder, neo_of(main, folder)))
    files.ensure(folder / "srv" / "tls", tls.TERMS.server_name, [HOST])  # as the recipe `placeholders` does for nginx
    made.start()
    yield made
    made.kill_all()


def neo_of(site: Site, folder: Path) -> Neo:
    paths = tuple(str(folder / "srv" / "tls" / name) for name in CERTIFICATE_FILES)
    return Neo(site.name, site.cluster.masters, site.cluster.admins, paths, certificate_url=site.certificate_url)


def renew(config: Config) -> subprocess.CompletedProcess:
    """The program, as people and the scheduler run it."""
    command = [config.path("bin", "zope-certificates"), "--config", config.path("etc", "zope.json")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def on(config: Config, site: Site, **changes: str) -> Config:
    """The same partition on another cluster, or with `changes`."""
    assert config.neo
    neo = dataclasses.replace(neo_of(site, config.path()), **changes)  # type: ignore[arg-type]
    config = dataclasses.replace(config, neo=neo)
    shapes.save(config.path("etc", "zope.json"), config)
    return config


def judged(config: Config) -> tuple[bool, str]:
    found = verdict.certificates(tls.status(config, times.now()), times.now())
    return found.good, "; ".join(found.sentences)


def test_a_zope_waits_for_its_certificate_and_then_serves(zopes: Zopes):
    waited_for = "it has no certificate of the NEO cluster main yet"
    wait_for(lambda: zopes.zope().reason == waited_for, "the reason")
    page = zopes.get("/")
    assert (page.status, page.state) == (503, WAITING) and waited_for in page.body
    path = zopes.config.path("srv", "tls", "trusted.pem")
    assert f"{waited_for} (nobody asks it without {path}, which the service zope-control gets)" in zopes.log()
    assert judged(zopes.config)[0]  # for a while
    result = renew(zopes.config)
    assert result.returncode == 0, result.stderr
    zopes.wait(SERVING)
    zopes.write("kept")
    assert zopes.zope().ends == ()
    good, sentence = judged(zopes.config)
    assert good and sentence.startswith("certificates and revocation lists are valid: client.pem until ")


def test_a_renewed_certificate_is_used_without_a_restart(zopes: Zopes, main: Site, partition: Path):
    """The one from before is refused by then."""
    assert renew(zopes.config).returncode == 0
    before = zopes.wait(SERVING)
    zopes.write("kept")
    old = shutil.copy(tls.files(zopes.config).client, partition / "old.pem")
    assert tls.Run(tls.giver(zopes.config), times.now() + timedelta(days=63)).complete() == 0
    assert revoke.revoke(neo_tls.Certificates(main.authority), str(old)) == 0
    assert neo_tls.renew_node(main.node) == 0
    assert zopes.process
    # It would end a Zope whose cluster is away for long.
    zopes.process.send_signal(signal.SIGSTOP)
    try:
        main.end(*main.node.names)
        main.start()
        main.wait("RUNNING")
        with pytest.raises(OSError, match="alert certificate revoked"):
            main.handshake(Path(old))
        zopes.write("later")
    finally:
        zopes.process.send_signal(signal.SIGCONT)
    wait_for(lambda: zopes.zope().reason == "its database serves", "an answer of the cluster")
    assert zopes.zope().child_pid == before.child_pid
    assert zopes.read() == "later"


def test_a_wrong_secret(zopes: Zopes, main: Site):
    config = on(zopes.config, main, certificate_url=neo_tls.url(main.node.tls.caucased_url, "guessed"))  # type: ignore[union-attr]
    result = renew(config)
    assert result.returncode == 1
    assert "refuses our proof (the proof is not one of this cluster's secret of its certificates)" in result.stderr
    assert "guessed" not in result.stderr
    assert zopes.zope().state == WAITING
    assert renew(on(zopes.config, main)).returncode == 0
    zopes.wait(SERVING)


def test_another_cluster_needs_another_certificate(zopes: Zopes, sites: Sites):
    assert renew(zopes.config).returncode == 0
    where, other = tls.files(zopes.config), sites("other")
    before = where.ca.read_text()
    config = on(zopes.config, other)
    result = renew(config)  # nobody answers there, and what is there stays
    assert result.returncode == 1 and other.node.tls.caucased_url in result.stderr  # type: ignore[union-attr]
    assert where.ca.read_text() == before
    other.start_authority()
    assert neo_tls.renew_cluster(other.authority) == 0
    assert renew(config).returncode == 0
    assert where.ca.read_text() not in ("", before)
    trusted = Path(config.neo.tls[0]).read_text() if config.neo else ""
    assert where.ca.read_text() in trusted and before not in trusted
