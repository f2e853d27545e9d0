# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `control-urls`: where a partition's control process is reached, for people, programs and other instances."""

from collections.abc import MutableMapping
from typing import Any

from slapos.recipe.erp5.control import token


class Recipe:
    """Options in: `ip`, `port`, and `token`, the secret that is in the URLs or behind them.

    Options out, set while the section is initialised: `takeover` and `monitor`.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        host, port, secret = options["ip"], int(options["port"]), options["token"]
        options["takeover"] = token.takeover_url(host, port, secret)
        options["monitor"] = token.monitor_url(host, port, secret)

    def install(self) -> tuple[str, ...]:
        return ()

    update = install
