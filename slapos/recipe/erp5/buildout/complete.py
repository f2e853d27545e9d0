# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `complete`: ends the processing of an instance until all that it has requested have published.

The Master of a real node processes a partition again when one that it has requested publishes something; slapproxy
does not, and a processing that fails is repeated with both.
"""

from collections.abc import MutableMapping
from typing import Any

from zc.buildout import UserError


class Recipe:
    """Options in: `missing`, the names of those that have not published yet, and `what` in a word. Raises UserError
    when installed, which is after what promises need: nothing is published before."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.missing, self.what = options["missing"], options["what"]

    def install(self) -> tuple[str, ...]:
        if self.missing:
            raise UserError(
                f"{', '.join(self.missing)}: no {self.what} published yet, expected them after some processing."
            )
        return ()

    update = install
