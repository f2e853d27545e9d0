# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a partition of Zopes: logs, and the certificate, where its NEO cluster has TLS."""

from pathlib import Path

from slapos.recipe.erp5.control.scheduler import Plan, python_command
from slapos.recipe.erp5.neo import jobs
from slapos.recipe.erp5.zope.config import Config

LOGS, LOGS_PERIOD = "log-rotation", "daily"


def of_zope(config: Config, path: Path) -> tuple[Plan, ...]:
    """What `config`, read from `path`, asks for."""
    certificates = jobs.certificates("slapos.recipe.erp5.zope.certificates", path) if config.certificate_url else ()
    return *certificates, Plan(LOGS, LOGS_PERIOD, python_command("slapos.recipe.erp5.zope.logs", "--config", str(path)))
