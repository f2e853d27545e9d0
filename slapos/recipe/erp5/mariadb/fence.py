# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a database read-only whatever its role, over restarts and reprocessing, and takes that away again."""

from typing import Any

from slapos.recipe.erp5.mariadb.action import Act
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Preflight


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action fence. Raises Refused, Error."""
    raise NotImplementedError


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    raise NotImplementedError


def fence(config: Config, act: Act, by: str, reason: str) -> str:
    """Refuse writes from now on; returns gtid_binlog_pos, behind which nothing comes any more. Raises Error."""
    raise NotImplementedError


def resume(config: Config, act: Act, forced: bool = False) -> str:
    """Take the fence away; returns the closing sentence. Raises Refused, Error."""
    raise NotImplementedError
