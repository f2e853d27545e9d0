# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-tls`: placeholders for the certificates that mariadbd and nginx cannot start without."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.tls import files


class Recipe:
    """Options: `folder` (srv/tls) and `ip` (addresses, one a line). What is there is never replaced, nor removed."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.folder, self.ips = Path(options["folder"]), options["ip"].split()

    def install(self) -> tuple[str, ...]:
        files.ensure(self.folder, self.ips)
        return ()

    update = install
