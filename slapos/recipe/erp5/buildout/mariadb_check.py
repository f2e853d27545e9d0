# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-check`: what a JSON schema cannot say of a MariaDB instance's parameters."""

from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.errors import ConfigurationError


class Recipe:
    """Option `configuration`: the parameters, validated by the schema; it stays as it is, for other sections to use.

    Raises UserError, one sentence naming the parameter, before anything of the partition is rendered.
    """

    def __init__(self, buildout: Any, name: str, options: Any) -> None:
        try:
            check(options["configuration"])
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
