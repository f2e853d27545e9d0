# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-check`: what a JSON schema cannot say of a MariaDB instance's parameters."""

import difflib
import os
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5.buildout.mariadb_collations import COLLATIONS
from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb.space import free
from slapos.recipe.erp5.words import size_text

BLOCK = 4096
"""The server rounds the size of its redo log down to a multiple of this."""


class Recipe:
    """Options: `configuration`, the parameters, validated by the schema; it stays as it is, for other sections to use.
    `data-directory`, where the server's files are, or are going to be.

    Raises UserError, one sentence naming the parameter, before anything of the partition is rendered.
    """

    def __init__(self, buildout: Any, name: str, options: Any) -> None:
        try:
            check(options["configuration"])
            check_machine(options["configuration"], Path(options["data-directory"]))
        except ConfigurationError as error:
            raise UserError(str(error)) from error

    def install(self) -> tuple[str, ...]:
        return ()

    update = install


def check(parameters: dict[str, Any]) -> None:
    """Raise ConfigurationError when a schedule is none, or the collation is not of the character set."""
    for kind in ("logical", "physical"):
        schedule.check(parameters["backup"][kind]["periodicity"], f"backup.{kind}")
    character_set, collation = parameters["character-set-server"], parameters["collation-server"]
    if collation != character_set and not collation.startswith(character_set + "_"):
        raise ConfigurationError(
            f"collation-server: {collation} does not belong to character-set-server, which is {character_set}; "
            f"give one that begins with {character_set}_."
        )
    if collation not in COLLATIONS[character_set]:
        near = difflib.get_close_matches(collation, sorted(COLLATIONS[character_set]), 1, 0)[0]
        raise ConfigurationError(
            f"collation-server: {collation} is not a collation that this release's MariaDB knows; "
            f"give one that it knows, such as {near}."
        )


def check_machine(parameters: dict[str, Any], data_directory: Path) -> None:
    """Raise ConfigurationError when the server could not start, as the machine has less than it is to take (bytes)."""
    name, memory = "innodb-buffer-pool-size", physical_memory()
    if parameters[name] > memory:
        raise ConfigurationError(
            f"{name}: {parameters[name]} bytes are more than the machine's memory, {memory} bytes; give less."
        )
    name, room = "innodb-log-file-size", free(_existing(data_directory))
    # What there is already takes no further space: a full disk must not refuse what has been running on it.
    if parameters[name] > max(room, _size(data_directory / "ib_logfile0") + BLOCK - 1):
        raise ConfigurationError(
            f"{name}: {parameters[name]} bytes are more than what is free on the partition's disk, {size_text(room)}; "
            "give less, or free some space."
        )


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
