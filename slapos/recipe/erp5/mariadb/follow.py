# SPDX-License-Identifier: GPL-2.0-or-later
"""The action follow."""

from typing import Any

from slapos.recipe.erp5.mariadb.action import Act
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Preflight


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action follow. Raises Refused, Error."""
    raise NotImplementedError


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    raise NotImplementedError


def follow(config: Config, act: Act, primary_url: str, control_url: str = "") -> str:
    """Replicate from the primary of `primary_url` (without an account: ours) from where this replica is; the sentence.

    Raises Refused, Error.
    """
    raise NotImplementedError
