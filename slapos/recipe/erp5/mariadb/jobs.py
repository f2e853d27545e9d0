# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a MariaDB partition: certificates, backups, and logs with the digest of slow queries."""

from pathlib import Path

from slapos.recipe.erp5 import process, tls
from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.control.scheduler import Plan, python_command
from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import manifest, offer, store
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.store import Store

LOGS = "log-rotation"
DIGEST = "slow-query-digest"
CERTIFICATES_PERIOD = "*/5 * * * *"
"""How soon a revocation, a certificate that was approved by hand, or a server that had been down is noticed."""
CERTIFICATES_PAUSE = 300.0
"""Seconds: as soon as that after a failure too, as one authority can be down for days while another one revokes."""
MODULES = {"logical": "slapos.recipe.erp5.mariadb.backup", "physical": "slapos.recipe.erp5.mariadb.physical"}


def plans(config: Config, config_path: Path) -> tuple[Plan, ...]:
    """The jobs that `config`, read from `config_path`, asks for. Raises ConfigurationError for a bad periodicity."""
    stores = store.all_of(config)
    for where in stores:
        schedule.check(where.schedule.periodicity, where.parameter)
    backups = (_backup(where, config_path) for where in stores if where.schedule.enable)
    return _certificates(config_path), *backups, *_logs(config_path)


def _backup(where: Store, config_path: Path) -> Plan:
    return Plan(
        where.job,
        where.schedule.periodicity,
        _command(MODULES[where.kind], config_path),
        _newest_backup(where),
        at_once=True,
        # One lock for both: the second one would find it taken, and come back a minute later.
        after="" if where.kind == "logical" else store.logical(where.config).job,
    )


def _certificates(config_path: Path) -> Plan:
    command = _command("slapos.recipe.erp5.mariadb.renew_certificates", config_path)
    return Plan(tls.JOB, CERTIFICATES_PERIOD, command, at_once=True, longest_pause=CERTIFICATES_PAUSE)


def _logs(config_path: Path) -> tuple[Plan, ...]:
    return (
        Plan(LOGS, "daily", _command("slapos.recipe.erp5.mariadb.logs", config_path)),
        Plan(DIGEST, "daily", _command("slapos.recipe.erp5.mariadb.digest", config_path), after=LOGS),
    )


def prepare(config: Config) -> None:
    """Offer exactly what is listed, whatever a killed run left behind; a failure is worth a line, not a halt."""
    try:
        with store.lock(config):
            for where in store.all_of(config):
                if where.schedule.enable or where.folder.is_dir():
                    store.settle(where)
            offer.update(config)
    except Busy:
        pass  # it does the same
    except (BackupError, OSError) as error:
        process.log(f"error: {error}")


def _command(module: str, config_path: Path) -> tuple[str, ...]:
    return python_command(module, "--config", str(config_path))


def _newest_backup(where: Store) -> str:
    """When the newest good backup was begun, empty when there is none; a broken list is reported by the next backup."""
    try:
        newest = manifest.newest(manifest.load(where.folder))
    except BackupError:
        return ""
    return newest.start if newest else ""
