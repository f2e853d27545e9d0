# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a ZEO partition: backups, and nginx's logs. What ZEO logs it rotates itself (`etc/zeo.conf`)."""

from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.control.scheduler import Plan, python_command
from slapos.recipe.erp5.errors import Busy, Error
from slapos.recipe.erp5.zeo import backup, repository
from slapos.recipe.erp5.zeo.config import BACKUP, Config

LOGS = "log-rotation"


def plans(config: Config, path: Path) -> tuple[Plan, ...]:
    """What `config`, read from `path`, asks for. Raises ConfigurationError for a bad periodicity."""
    schedule.check(config.backup.periodicity, BACKUP)
    command = python_command("slapos.recipe.erp5.zeo.backup", "--config", str(path))
    backups = Plan(BACKUP, config.backup.periodicity, command, _last(config), at_once=True)
    logs = Plan(LOGS, "daily", python_command("slapos.recipe.erp5.zeo.logs", "--config", str(path)))
    return (*((backups,) if config.backup.enable else ()), logs)


def _last(config: Config) -> str:
    """When the last good backup was begun of the storage that has the oldest; empty when one has none."""
    found = [repository.last(config.backups(storage)) for storage in config.storages]
    return min(one.at if one else "" for one in found)


def prepare(config: Config) -> None:
    """Remove what killed backups have left; a failure is worth a line, not a halt."""
    try:
        with backup.alone(config):
            for storage in config.storages:
                if config.backups(storage).is_dir():
                    repository.settle(config.backups(storage))
    except Busy:
        pass  # it does the same
    except (Error, OSError) as error:
        process.log(f"error: {process.describe(error)}")
