# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps `.installed.cfg` readable for strict parsers: stock buildout appends a [buildout] section at each update."""

import re

SECTION = "[buildout]\n"


def merged(text: str) -> str:
    """Return the text with all [buildout] sections made one, at the place of the first; a later option wins."""
    blocks = re.split(r"(?m)^(?=\[)", text)
    ours = [block for block in blocks if block.startswith(SECTION)]
    options: dict[str, str] = {}
    for block in ours:
        # A line that is not indented begins an option; its further lines are indented.
        for option in re.split(r"(?m)^(?=\S)", block.removeprefix(SECTION)):
            if option.strip():
                options[option.split("=", 1)[0].strip()] = option.rstrip("\n") + "\n"
    if len(ours) < 2:
        return text
    first = blocks.index(ours[0])
    others = [block for block in blocks[first:] if not block.startswith(SECTION)]
    return "".join([*blocks[:first], SECTION, *options.values(), "\n", *others])
