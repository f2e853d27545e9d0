# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether an ERP5 instance has all that it asked for: pure functions, in sentences for a promise."""

from collections.abc import Iterator

from slapos.recipe.erp5.root.config import Config
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import listing


def complete(config: Config) -> Verdict:
    """Whether all children have published; how they are, their own promises say."""
    names = [child.name for child in config.children]
    return judge(_problems(config), f"{listing(names)} are there; their own promises say how they are")


def _problems(config: Config) -> Iterator[str]:
    missing = [child.name for child in config.children if not child.published]
    if missing:
        yield (
            f"{listing(missing)} {'has' if len(missing) == 1 else 'have'} not published what was asked for yet,"
            " expected all to"
            " do so after some processing: see the promises of those that there are, and whether the node has free"
            " partitions"
        )
    yield from config.differences
