# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `neo-addresses`: the addresses of a NEO node's processes, as it publishes them."""

from collections.abc import MutableMapping
from typing import Any

from slapos.recipe.erp5.words import bracketed


class Recipe:
    """Options in: `ip`, `master` (bool: whether the node has one), `storage-count` (int), and the ports `master-port`,
    `admin-port` and `storage-port`, the first of the storages'; `control-url` (control/token.py), where the node does
    what the cluster's partition asks; and `request`, a certificate request, or empty.

    Option out, set while the section is initialised: `addresses`, an object with `master` (empty without), `admin` and
    `storages`, as `host:port`, `control-url`, and `request` where there is one.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        host, first = bracketed(options["ip"]), int(options["storage-port"])
        options["addresses"] = {
            "master": f"{host}:{options['master-port']}" if options["master"] else "",
            "admin": f"{host}:{options['admin-port']}",
            "storages": [f"{host}:{first + number}" for number in range(options["storage-count"])],
            **({"request": options["request"]} if options["request"] else {}),
            "control-url": options["control-url"],
        }

    def install(self) -> tuple[str, ...]:
        return ()

    update = install
