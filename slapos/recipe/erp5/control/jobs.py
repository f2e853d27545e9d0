# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a MariaDB partition: its logical backup, and its logs with the digest of slow queries."""

from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.control.scheduler import Plan, python_command
from slapos.recipe.erp5.errors import BackupError, Busy
from slapos.recipe.erp5.mariadb import manifest, store
from slapos.recipe.erp5.mariadb.config import Config

BACKUP = "logical-backup"
LOGS = "log-rotation"
DIGEST = "slow-query-digest"


def plans(config: Config, config_path: Path) -> tuple[Plan, ...]:
    """The jobs that `config`, read from `config_path`, asks for. Raises ConfigurationError for a bad periodicity."""
    backup = config.backup.logical
    schedule.check(backup.periodicity)
    logs = (
        Plan(LOGS, "daily", _command("slapos.recipe.erp5.mariadb.logs", config_path)),
        Plan(DIGEST, "daily", _command("slapos.recipe.erp5.mariadb.digest", config_path), after=LOGS),
    )
    if not backup.enable:
        return logs
    command = _command("slapos.recipe.erp5.mariadb.backup", config_path)
    return Plan(BACKUP, backup.periodicity, command, _newest_backup(config), at_once=True), *logs


def prepare(config: Config) -> None:
    """Offer exactly what is listed, whatever a killed run left behind; a failure is worth a line, not a halt."""
    try:
        with store.lock(config):
            store.settle(config)
    except Busy:
        pass  # it does the same
    except (BackupError, OSError) as error:
        process.log(f"error: {error}")


def _command(module: str, config_path: Path) -> tuple[str, ...]:
    return python_command(module, "--config", str(config_path))


def _newest_backup(config: Config) -> str:
    """When the newest good backup was begun, empty when there is none; a broken list is reported by the next backup."""
    try:
        newest = manifest.newest(manifest.load(config.dumps))
    except BackupError:
        return ""
    return newest.start if newest else ""
