# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `complete`: ends the processing of an instance until all that it has requested have published.

The Master of a real node processes a partition again when one that it has requested publishes something; slapproxy
does not, and a processing that fails is repeated with both.
"""

from collections.abc import MutableMapping
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5.buildout.requests import NO_PARTITION


class Recipe:
    """Options in: `missing`, the names of those that have not published yet, `unsatisfied`, those of them that have no
    partition even, and `what` in a word. Raises UserError when installed, which is after what promises need: nothing
    is published before."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.unsatisfied, self.what = options["unsatisfied"], options["what"]
        self.waiting = [name for name in options["missing"] if name not in self.unsatisfied]

    def install(self) -> tuple[str, ...]:
        sentences = []
        if self.unsatisfied:
            sentences.append(f"{', '.join(self.unsatisfied)}: {NO_PARTITION}.")
        if self.waiting:
            sentences.append(
                f"{', '.join(self.waiting)}: no {self.what} published yet, expected them after some processing."
            )
        if sentences:
            raise UserError(" ".join(sentences))
        return ()

    update = install
