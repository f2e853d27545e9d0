# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-replication`: what a new database is to replicate from, decided until it exists, then kept."""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import primary, source
from slapos.recipe.erp5.mariadb.config import REPLICATION_USER


@dataclass(frozen=True)
class Origin:
    """What a database was created as: `user` is that of the replication account, which a replica has from upstream."""

    replica: bool
    user: str


class Recipe:
    """Options in: `configuration` (the parameters), `data-directory`, and `storage-path`, the file that keeps Origin.

    Options out, set while the section is initialised: `replication` (the translated parameter, or None), `is-replica`
    (bool: whether the database came, or is to come, from another server), `is-primary` (the opposite), `user` (of the
    replication account), `password` (what `replication-password` is to become: empty where it stays) and `networking`
    (a variable for the service script, which says what is asked for).
    Raises UserError, one sentence naming the parameter, and quoting no password.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.storage = Path(options["storage-path"])
        try:
            replication = translated(options["configuration"]["replication"])
        except ConfigurationError as error:
            raise UserError(str(error)) from error
        exists = Path(options["data-directory"]).exists()
        self.origin = (load(self.storage) or Origin(False, REPLICATION_USER)) if exists else requested(replication)
        options["replication"] = replication
        options["is-replica"], options["is-primary"] = self.origin.replica, not self.origin.replica
        options["user"] = self.origin.user
        options["networking"] = f"MARIADB_NETWORKING={networking(replication)}"
        options["password"] = "" if exists or not replication else upstream(replication).password

    def install(self) -> tuple[str, ...]:
        if load(self.storage) != self.origin:
            self.storage.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            process.write_atomically(
                self.storage, json.dumps({"replica": self.origin.replica, "user": self.origin.user})
            )
        return ()

    update = install


def translated(parameter: Mapping[str, object]) -> dict[str, object] | None:
    """The parameter `replication` under our own names, checked; None for a primary. Raises ConfigurationError."""
    replication = primary.translate(parameter)
    primary.check(replication)
    if replication and replication["bootstrap-url"]:
        source.parse_bootstrap_url(str(replication["bootstrap-url"]))
    return replication


def requested(replication: Mapping[str, object] | None) -> Origin:
    """What a database is going to be that does not exist yet."""
    return Origin(True, upstream(replication).user) if replication else Origin(False, REPLICATION_USER)


def networking(replication: Mapping[str, object] | None) -> str:
    """What is asked for; what there is depends on the database as well (mariadb/decide.py)."""
    return "tcp" if replication is None or replication["allow-tcp-connections-on-replica"] else "socket-on-a-replica"


def upstream(replication: Mapping[str, object]) -> primary.Primary:
    """Where the parameter says that the primary is. Raises ConfigurationError."""
    return primary.parse(str(replication["primary-url"]))


def load(path: Path) -> Origin | None:
    """The kept Origin, None when there is none. Raises UserError when the file cannot be used."""
    try:
        return Origin(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} should say what this partition's database was created as, and cannot be read"
            f" ({type(error).__name__}); restore it from a backup"
        ) from error
