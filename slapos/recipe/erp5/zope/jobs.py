# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a partition of Zopes: the certificate, where its NEO cluster has TLS."""

from pathlib import Path

from slapos.recipe.erp5.control.scheduler import Plan
from slapos.recipe.erp5.neo import jobs
from slapos.recipe.erp5.zope import tls
from slapos.recipe.erp5.zope.config import Config


def of_zope(config: Config, path: Path) -> tuple[Plan, ...]:
    """What `config`, read from `path`, asks for."""
    return jobs.certificates("slapos.recipe.erp5.zope.certificates", path) if tls.has_tls(config) else ()
