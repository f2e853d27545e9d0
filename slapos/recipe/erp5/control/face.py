# SPDX-License-Identifier: GPL-2.0-or-later
"""What the overview of the control page shows of a service, beside what Facts has for all of them."""

from dataclasses import dataclass

from slapos.recipe.erp5.control.plot import Plot


@dataclass(frozen=True)
class Row:
    """A name, and what is to be told of it; `code`: it is for programs too, and set as such."""

    name: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Figures:
    """Large figures below a title, and the last hour of one of them."""

    title: str
    rows: tuple[Row, ...]
    plot: Plot | None = None


@dataclass(frozen=True)
class Face:
    """`role` is what it is now, `aside` a word about that; `usual` names the actions that this calls for.

    `care_title` and `care` are what is below the promises, such as backups.
    """

    role: str
    aside: str = ""
    figures: Figures | None = None
    usual: tuple[str, ...] = ()
    details: tuple[Row, ...] = ()
    care_title: str = "Promises"
    care: tuple[Row, ...] = ()


def moment(text: str) -> str:
    """A moment of our files, as people read it."""
    return text.replace("T", " ").replace("Z", " UTC") if text else "never"
