# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of `etc/erp5.json`: what an ERP5 instance has requested."""

from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config


@dataclass(frozen=True)
class Child:
    """An instance that was requested, or will be once the others have published: `name` is its title, `kind` its"
    " type."""

    name: str
    kind: str
    published: bool


@dataclass(frozen=True)
class Config:
    """`etc/erp5.json`; `differences` tells in sentences what the parameters ask for and is not done."""

    instance: str  # the instance's title
    children: tuple[Child, ...]
    differences: tuple[str, ...]


def load(path: str | Path) -> Config:
    """Read `etc/erp5.json`. Raises ConfigurationError."""
    return config.load(path, Config)
