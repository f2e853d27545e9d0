# SPDX-License-Identifier: GPL-2.0-or-later
"""The on_start hook: does before a service start what a new release or new parameters ask for, or nothing."""

import argparse
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError, Error, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import (
    create,
    decide,
    mroonga,
    private_server,
    provision,
    relay,
    role_state,
    semi_sync,
    timezone,
    upgrade,
)
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.decide import Handled, Snapshot
from slapos.recipe.erp5.mariadb.status import is_replica

STATE = "slapos.state.json"
"""In the data directory, beside the server's own upgrade mark, so that it is always about that very directory: it goes
away, comes along or is restored with it. Losing it costs one private server."""
# Data files of the system tables (Aria) that tell whether an account, a plugin or a time zone was changed.
WATCHED = (
    "global_priv",
    "plugin",
    "func",
    "time_zone",
    "time_zone_name",
    "time_zone_transition",
    "time_zone_transition_type",
)


# ---- gather


def gather(config: Config) -> Snapshot:
    """What can be known without a server. Raises CommandError."""
    return Snapshot(
        server_version=upgrade.server_version(config),
        data_version=upgrade.data_version(config.data_directory),
        before=read_state(config.data_directory / STATE),
        now=present(config),
    )


def present(config: Config) -> Handled:
    """What a start that dealt with everything would have dealt with."""
    # Without checking: a list that cannot be served, or a release without time zones, is no reason to serve nothing.
    entries = (*config.databases, *config.test_databases)
    names = [(entry.name, entry.user, entry.with_process_privilege) for entry in decide.known(entries)]
    try:
        zoneinfo = timezone.fingerprint(config.software.zoneinfo)
    except ConfigurationError:
        zoneinfo = "unusable"
    return Handled(
        administrator=_fingerprint(config.secrets.administrator_password),
        requested=_fingerprint(json.dumps([bool(config.network.ipv6), *sorted(names)])),
        zoneinfo=zoneinfo,
        mroonga=config.mroonga,
        replica=is_replica(config),
        files=tuple(f"{name} {_size_and_time(config.data_directory / 'mysql' / f'{name}.MAD')}" for name in WATCHED),
    )


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _size_and_time(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return "none"
    return f"{status.st_size} {status.st_mtime_ns}"


def read_state(path: Path) -> Handled | None:
    """What the last start dealt with; None when that is not known, for whatever reason."""
    try:
        return shapes.load(path, Handled)
    except ConfigurationError:
        return None


def write_state(path: Path, handled: Handled) -> None:
    """Keep what this start dealt with for the next one."""
    shapes.save(path, handled)


# ---- act


def write_options(path: Path, options: tuple[str, ...]) -> None:
    """Leave `options` for the service script, one a line. Raises OSError: a replica must not start without its own."""
    if not options:
        path.unlink(missing_ok=True)
        return
    content = "".join(f"{option}\n" for option in options)
    if not path.exists() or path.read_text(encoding="utf-8") != content:  # a full disk keeps no replica from starting
        process.write_atomically(path, content)


def on_start(config: Config) -> None:
    """Do what is needed; raises Error when the service must not start."""
    snapshot = gather(config)
    decision = decide.start(snapshot)
    if decision.refusal:
        raise ServerError(decision.refusal)
    with optional():
        relay.keep(config)
    if decision.reasons:
        prepare(config, decision, snapshot)
    replica = is_replica(config)
    options = (
        *decide.server_options(config.replication, replica, is_fenced(config)),
        *semi_sync.options(config.semi_sync, replica, is_being_promoted(config)),
    )
    write_options(config.server_options, options)


def is_fenced(config: Config) -> bool:
    """Whether the database is to refuse writes whatever its role; also when nobody can know."""
    try:
        return role_state.load(config).fenced is not None
    except ConfigurationError as error:
        process.log(f"warning: {error}, so that the server starts read-only; bin/mariadb-resume changes that")
        return True


def is_being_promoted(config: Config) -> bool:
    """Whether a promotion is under way, which may need this start: nobody can follow the new primary yet."""
    try:
        return role_state.load(config).promotion is not None
    except ConfigurationError:
        return False


def prepare(config: Config, decision: decide.Start, snapshot: Snapshot) -> None:
    """Do what `decision` says, and note it for the next start. Raises Error."""
    with process.step(f"prepare the start, as {'; '.join(decision.reasons)}"):
        handled = act(config, decision, snapshot.now)
    path = config.data_directory / STATE
    try:
        # The files as the private server left them.
        write_state(path, dataclasses.replace(handled, files=present(config).files))
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()  # it says less than what was done, and not what failed
        process.log(f"warning: {process.describe(error)}; the service starts, and the next start does all this again")


def act(config: Config, decision: decide.Start, now: Handled) -> Handled:
    """Carry out `decision`; returns what was dealt with: what failed without being vital is tried again next time."""
    with private_server.administered(config, create.administrator_sql(config)) as (connection, socket):
        if decision.upgrade:
            upgrade.upgrade(config, socket)
        with optional() as engine:
            mroonga.install(config, connection)
        with optional() as zones:
            if decision.time_zones:
                timezone.load(config, connection, socket)
        with optional() as databases:
            provision.provision(config, connection)
    return dataclasses.replace(
        now,
        mroonga=now.mroonga and not engine.failed,
        zoneinfo="" if zones.failed else now.zoneinfo,
        requested="" if databases.failed else now.requested,
    )


@dataclasses.dataclass
class Outcome:
    """Whether an optional step failed."""

    failed: bool = False


@contextlib.contextmanager
def optional() -> Iterator[Outcome]:
    """A step without which the service starts all the same: production matters more than what it could not do."""
    outcome = Outcome()
    try:
        yield outcome
    except (Error, OSError) as error:
        outcome.failed = True
        said = process.describe(error)
        process.log(f"warning: {said}; the service starts without it, and the next start tries again")


def main() -> int:
    """The program `mariadb-on-start`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="etc/mariadb.json")
    arguments = parser.parse_args()
    return process.program(lambda: on_start(configuration.load(arguments.config)))
