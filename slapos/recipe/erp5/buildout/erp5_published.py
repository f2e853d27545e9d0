# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `erp5-published`: what an ERP5 instance publishes, whose names nobody knows before its children are there."""

from collections.abc import MutableMapping
from typing import Any


class Recipe:
    """Option in: `values`, an object. Options out, set while the section is initialised: each of its keys, and
    `-publish`, by which the recipe that publishes (slapos.cookbook:publish.serialised, `-extends`) knows them."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        values = dict(options["values"])
        options.update(values)
        options["-publish"] = " ".join(sorted(values))

    def install(self) -> tuple[str, ...]:
        return ()

    update = install
