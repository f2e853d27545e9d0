# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-replication`: what a new database is to replicate from, decided until it exists, then kept."""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import primary, source
from slapos.recipe.erp5.mariadb.config import REPLICATION_USER
from slapos.recipe.erp5.passwords import make_password

PASSWORD_LENGTH = 32


@dataclass(frozen=True)
class Origin:
    """What a database was created as: `user` is that of the replication account, which a replica has from upstream.

    `authority` is the URL of the certificate authority that is not our own, or empty.
    """

    replica: bool
    user: str
    authority: str = ""


class Recipe:
    """Options in: `configuration` (the parameters), `data-directory`, and `storage-path`, the file that keeps Origin.

    Options out, set while the section is initialised: `replication` (the translated parameter, or None), `is-replica`
    (bool: whether the database came, or is to come, from another server), `is-primary` (the opposite), `user` (of the
    replication account), `authority` and `authority-differs` (bool: whether another one is asked for now) and
    `password` (what `replication-password` is to become: empty where it stays).
    Raises UserError, one sentence naming the parameter, and quoting no password.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.storage = Path(options["storage-path"])
        try:
            replication = translated(options["configuration"]["replication"])
        except ConfigurationError as error:
            raise UserError(str(error)) from error
        exists = Path(options["data-directory"]).exists()
        wanted = requested(replication, options["configuration"]["caucased"]["external-caucased-url"])
        before = load(self.storage) or Origin(False, REPLICATION_USER)
        self.origin = before if exists else wanted
        options["authority"] = self.origin.authority
        options["authority-differs"] = self.origin.authority != wanted.authority
        options["replication"] = replication
        options["is-replica"], options["is-primary"] = self.origin.replica, not self.origin.replica
        options["user"] = self.origin.user
        options["password"] = "" if exists else password(replication, before)

    def install(self) -> tuple[str, ...]:
        if load(self.storage) != self.origin:
            self.storage.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            process.write_atomically(self.storage, json.dumps(asdict(self.origin)))
        return ()

    update = install


def translated(parameter: Mapping[str, object]) -> dict[str, object] | None:
    """The parameter `replication` under our own names, checked; None for a primary. Raises ConfigurationError."""
    replication = primary.translate(parameter)
    primary.check(replication)
    if replication and replication["bootstrap-url"]:
        source.parse_bootstrap_url(str(replication["bootstrap-url"]))
    return replication


def requested(replication: Mapping[str, object] | None, authority: str) -> Origin:
    """What a database is going to be that does not exist yet."""
    user = upstream(replication).user if replication else REPLICATION_USER
    return Origin(replication is not None, user, authority)


def password(replication: Mapping[str, object] | None, before: Origin) -> str:
    """The replication password of a database that does not exist yet: a replica's is upstream's, and nobody else's."""
    if replication:
        return upstream(replication).password
    return make_password(PASSWORD_LENGTH) if before.replica else ""


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
