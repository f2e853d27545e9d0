# SPDX-License-Identifier: GPL-2.0-or-later
"""The action detach."""

from typing import Any

from slapos.recipe.erp5.mariadb.action import Act
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Preflight


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action detach. Raises Refused, Error."""
    raise NotImplementedError


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    raise NotImplementedError
