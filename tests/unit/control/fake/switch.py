# SPDX-License-Identifier: GPL-2.0-or-later
"""The lamp's one action, and its program lamp-action."""

import sys

from slapos.recipe.erp5.control import actions
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.actions import Options
from slapos.recipe.erp5.control.preflight import FORCE, Preflight, Reason, require
from tests.unit.control.fake.service import LAMP, Config


def run(config: Config, act: Act, options: Options) -> str:
    """Turn it."""
    require(check(config, options), bool(options.get("force")))
    act.step("turn it")
    if config.is_on:
        config.path("srv", "on").unlink()
    else:
        config.path("srv", "on").touch()
    return f"the lamp is {'on' if config.is_on else 'off'}"


def check(config: Config, options: Options) -> Preflight:
    """The dark is only for who wants it."""
    return Preflight("switch", (Reason(FORCE, "it is dark then"),) if config.is_on else ())


if __name__ == "__main__":
    sys.exit(actions.main(LAMP))
