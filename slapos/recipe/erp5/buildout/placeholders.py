# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `placeholders`: certificates without which nginx would not start, of an authority that nobody trusts."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.tls import files


class Recipe:
    """Options in: `folder` (srv/tls), `name` (the common name of servers) and `ip` (addresses, one a line).

    Files are written when the part is installed; what is there is never replaced, nor removed. Who asks a control page
    looks at no certificate: questions and answers prove themselves (control/peer_proof.py), and people know the token.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.folder, self.name, self.ips = Path(options["folder"]), options["name"], options["ip"].split()

    def install(self) -> tuple[str, ...]:
        files.ensure(self.folder, self.name, self.ips)
        return ()

    update = install
