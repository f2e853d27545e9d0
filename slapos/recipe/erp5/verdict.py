# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about a status that was gathered, of any service: whether it is good, and the sentences for people."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`sentences` are the problems, or when it is good the one that says how things stand."""

    good: bool
    sentences: tuple[str, ...]


def judge(problems: Iterator[str], otherwise: str) -> Verdict:
    """Bad with all problems, or good with the sentence `otherwise`."""
    found = tuple(problems)
    return Verdict(not found, found or (otherwise,))
