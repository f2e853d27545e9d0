# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `balancer-families`: a port for each family of Zopes, chosen once and kept, and its URL."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.buildout import port as ports
from slapos.recipe.erp5.words import bracketed

RANGE = "26000-26999"
CLASSES = 50
"""So that each partition has 20 ports to choose from, of which a family takes one."""


class Recipe:
    """Options in: `configuration` (the parameters), `ip`, `partition` ("slappart3"), and `kept`, the folder that keeps
    the ports, also of families that are not asked for any more.

    Options out, set while the section is initialised: `families` (a list of objects as balancer.config.Family) and
    `urls` (an object: the URL of each). Raises UserError.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        families = options["configuration"]["families"]
        # The kept ones first, as a new one may take none of theirs, whether or not anybody listens there just now.
        kept = {path.name[7:-5] for path in Path(options["kept"]).glob("family-*-port")}
        chosen = {
            family: self._port(buildout, family, options) for family in [*sorted(kept), *sorted(families.keys() - kept)]
        }
        self.ports = {family: chosen[family] for family in sorted(families)}
        options["families"] = [
            {"name": family, "port": int(port.port), "addresses": families[family]["addresses"]}
            for family, port in self.ports.items()
        ]
        host = bracketed(options["ip"])
        options["urls"] = {family: f"http://{host}:{port.port}" for family, port in self.ports.items()}

    def _port(self, buildout: Any, family: str, options: MutableMapping[str, Any]) -> ports.Recipe:
        wanted = {
            "range": RANGE,
            "classes": CLASSES,
            "ip": options["ip"],
            "parameter": f"port of the family {family}",
            "partition": options["partition"],
            "storage-path": str(Path(options["kept"], f"family-{family}-port")),
        }
        return ports.Recipe(buildout, family, wanted)

    def install(self) -> tuple[str, ...]:
        for port in self.ports.values():
            port.install()
        return ()

    update = install
