# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `umask`: what the processing of an instance writes is its own account's alone, `.installed.cfg` first of all.

slapgrid runs buildout with the mask 0027, so that the group can read published passwords in `.installed.cfg`. Any part
with this recipe, in the instance's outermost profile, is enough: all recipes are initialised before buildout writes.
"""

import os
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

DEFAULT = "0077"


class Recipe:
    """Option in: `umask` (octal, 0077 by default). It holds for the rest of the process and the buildouts inside it.

    Files of installed options that were already there lose the same permissions, as buildout rewrites them in place.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        mask = int(options.get("umask", DEFAULT), 8)
        os.umask(mask)
        for path in Path(buildout["buildout"]["directory"]).glob(".installed*.cfg"):
            restrict(path, mask)

    def install(self) -> tuple[str, ...]:
        return ()

    update = install


def restrict(path: Path, mask: int) -> None:
    """Take the permissions of a mask away from a file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & mask:
        path.chmod(mode & ~mask)
