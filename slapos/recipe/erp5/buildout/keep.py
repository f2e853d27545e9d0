# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `keep`: a password, token or server id that is made once, or given by a parameter, and then kept for ever."""

import re
import secrets
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.passwords import make_password, make_token

HIGHEST_SERVER_ID = 2**32 - 1


class Recipe:
    """Options in: `kind` (`password`, `token` or `server-id`), `storage-path` (the file that keeps the value),
    `requested` (the value of the parameter, or empty), `parameter` (its name, for messages; by default the section's)
    and, for a password that is made, `length` (32 by default).

    Option out, set while the section is initialised: `value` (str). It changes only when another one is requested; a
    parameter that is left out later changes nothing. Buildout writes it into `.installed.cfg`: see the recipe `umask`.
    The file is written when the part is installed: a request that another section refuses changes nothing.
    Raises UserError, one sentence naming the parameter.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        kind = options["kind"]
        if kind not in ("password", "token", "server-id"):
            raise UserError(f"{name}: kind is {kind}; it can be password, token or server-id.")
        requested = options.get("requested")
        value = "" if requested is None else str(requested)
        if kind == "server-id":
            check_server_id(value, options.get("parameter") or name)
        self.storage = Path(options["storage-path"])
        self.requested = value
        self.value = choose(self.storage, value or None, kind, int(options.get("length", "32")))
        options["value"] = self.value

    def install(self) -> tuple[str, ...]:
        kept = load(self.storage)
        # Whoever changed the file since it was read, such as a rotation, knows better.
        if kept is None or (self.requested and kept != self.requested):
            self.storage.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            process.write_atomically(self.storage, self.value)
        return ()

    update = install


def choose(storage: Path, requested: str | None, kind: str, length: int) -> str:
    """Return the requested value, else the kept one, else a new one."""
    return requested or load(storage) or make(kind, length)


def make(kind: str, length: int) -> str:
    """Return a new value of a kind, a password in this length."""
    if kind == "token":
        return make_token()
    return make_password(length) if kind == "password" else make_server_id()


def load(storage: Path) -> str | None:
    """Return what a file keeps, to the last character, None when there is no file."""
    try:
        return storage.read_bytes().decode()
    except FileNotFoundError:
        return None


def make_server_id() -> str:
    """Return a random id that MariaDB takes, so that no two servers share one unless by a chance of 1 in 4 billion."""
    return str(secrets.randbelow(HIGHEST_SERVER_ID) + 1)


def check_server_id(value: str, parameter: str) -> None:
    """Refuse what MariaDB would not take, or would silently change. Nothing given is right."""
    if value and not (re.fullmatch(r"[0-9]{1,10}", value) and 1 <= int(value) <= HIGHEST_SERVER_ID):
        raise UserError(
            f"{parameter}: {value} is not a number between 1 and {HIGHEST_SERVER_ID};"
            " give one, or leave the parameter out to have one chosen."
        )
