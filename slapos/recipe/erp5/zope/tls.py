# SPDX-License-Identifier: GPL-2.0-or-later
"""The certificate that a partition's Zopes, and who asks NEO for them, have as clients of a NEO cluster with TLS.

It is the same kind that the cluster's nodes have, got the same way (neo/tls.py): there is one authority for all.
"""

from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.tls import join, renew
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.status import Status
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.terms import TERMS

PARAMETER = "zodb.neo-certificate-url"


def files(config: Config) -> Files:
    return Files(config.path("srv", "tls"))


def giver(config: Config) -> Giver:
    """Whom it asks. Raises ConfigurationError where there is no TLS, or the URL is none."""
    if not config.certificate_url:
        raise ConfigurationError(
            f"this partition has no certificate, expected {PARAMETER}, which a NEO cluster with TLS publishes"
        )
    return _giver(files(config), config.certificate_url)


def check(url: str) -> None:
    """Refuse a URL that is none. Raises ConfigurationError."""
    _giver(Files(Path()), url)


def _giver(where: Files, url: str) -> Giver:
    return tls.giver(where, url, TERMS, PARAMETER, "NEO cluster")


class Run(tls.MemberRun):
    """One run: the certificate, and what the cluster trusts."""

    def complete(self) -> int:
        where = self.asked.where
        # Zopes may be given another database, unlike a node, which belongs to one cluster for ever.
        if tls.has_certificate(where) and join.record(where).get("endpoint") != self.asked.endpoint:
            self.part(lambda: join.join(self.asked))
        return super().complete()


def renew_certificate(config: Config) -> int:
    """A regular run. Returns a program's exit status."""
    return renew.alone(config.path("var", "run", "certificates.lock"), Run(giver(config), times.now()).complete)


def status(config: Config, now: datetime) -> Status:
    """What lies on disk: clients show it to nobody who could be asked. Raises Error."""
    return tls.member_status(giver(config), config.scheduler_state, (), now)
