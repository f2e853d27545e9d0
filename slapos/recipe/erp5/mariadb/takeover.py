# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a replica the primary: what it has received is applied first, and only then it stops being a replica."""

from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection

from slapos.recipe.erp5.mariadb.action import Act
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.preflight import Preflight


def run(config: Config, act: Act, options: dict[str, Any]) -> str:
    """The action takeover. Raises Refused, Error."""
    raise NotImplementedError


def check(config: Config, options: dict[str, Any]) -> Preflight:
    """Its dry run. Raises Error."""
    raise NotImplementedError


def promote(
    config: Config,
    act: Act,
    connection: Connection,
    from_address: str,
    hand_over_id: str = "",
    last_check: Callable[[], None] = lambda: None,
    events: bool = True,
) -> None:
    """Let a replica that has applied all it received be a primary: writable, reachable by TCP, over restarts.

    `connection` is the administrator's. `act.action` names the change in state and journal; `last_check` is called
    right before what cannot be undone, and raises what speaks against it. Raises Error.
    """
    raise NotImplementedError
