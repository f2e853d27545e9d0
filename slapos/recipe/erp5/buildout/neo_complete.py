# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `neo-complete`: ends the processing of a NEO cluster until all its nodes have published their addresses.

The Master of a real node processes a partition again when one that it has requested publishes something; slapproxy
does not, and a processing that fails is repeated with both.
"""

from collections.abc import MutableMapping
from typing import Any

from zc.buildout import UserError


class Recipe:
    """Option in: `missing`, the names of the nodes whose addresses are not known yet. Raises UserError when installed,
    which is after what promises need: nothing is published before."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.missing = options["missing"]

    def install(self) -> tuple[str, ...]:
        if self.missing:
            raise UserError(
                f"{', '.join(self.missing)}: no addresses published yet, expected them after some processing."
            )
        return ()

    update = install
