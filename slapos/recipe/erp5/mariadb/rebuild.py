# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the database of a fenced old primary anew, as a replica, beside the old one, and puts it in its place.

The old database serves (read-only) until the new one is complete, and is kept. Killed before the exchange, the old
one stays; killed after it, the new one is there. The supervisor starts the server again in either case.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from slapos.recipe.erp5 import process, supervisor, times
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.errors import Busy, Refused, ServerError
from slapos.recipe.erp5.mariadb import bootstrap, create, demote, private_server, replica, role_state, swap
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.bootstrap_outside import Real
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.progress import Progress
from slapos.recipe.erp5.mariadb.role_state import Upstream
from slapos.recipe.erp5.mariadb.source import parse_bootstrap_url
from slapos.recipe.erp5.supervisor import Service

NAME = "mariadb"
STOPPING = 120.0
"""Seconds in which the server has to end."""


def growing(config: Config) -> Path:
    """Where the new database grows; mariadb-restore uses another folder."""
    return config.data_directory.with_name(config.data_directory.name + ".rejoin")


def _unfinished(config: Config) -> Path:
    """A file beside it, until it is complete; from then on swap.MARK in it tells it from the old one."""
    return growing(config).with_name(growing(config).name + ".unfinished")


def source(config: Config, primary: Primary, bootstrap_url: str) -> Upstream:
    """Where it comes from: `bootstrap_url`, or the one from before. Raises Refused, ConfigurationError.

    The binary logs alone would not do: what this server wrote itself, when it was the primary, it would pass over.
    """
    before = role_state.load(config).upstream
    url = bootstrap_url or (before.bootstrap_url if before else "")
    if not url:
        raise Refused(
            "a database is made anew from a backup of the new primary, and nobody has said where those are: give the"
            " replication-bootstrap-url that it publishes (option bootstrap-url)"
        )
    parse_bootstrap_url(url)
    return Upstream(urls.url(primary), bool(primary.endpoint), url)


def rebuild(config: Config, act: Act, primary: Primary, upstream: Upstream) -> Path:
    """Make it anew; returns where the old one lies now. Raises Error, OSError: the old one is then in its place."""
    role_state.change(config, upstream=upstream)
    settle(config, act)
    folder = growing(config)
    _unfinished(config).touch(mode=0o600)
    wanted = replica.effective(config)
    os.umask(0o077)
    try:
        act.step(f"make a new database from {primary.address}, beside the old one")
        bootstrap.make(wanted, folder, Progress(config.bootstrap_state), Real())
        create.create(wanted, folder)
        (folder / swap.MARK).touch(mode=0o600)
        _unfinished(config).unlink()
        process.sync_filesystem(folder)
    except BaseException:
        _discard(config)
        raise
    return _exchange(config, act, primary, upstream, folder)


def _exchange(config: Config, act: Act, primary: Primary, upstream: Upstream, folder: Path) -> Path:
    act.step("stop the server, and put the new database in the place of the old one")
    service = Service(config.path("var", "run"), NAME)
    supervisor.stop(service)
    try:
        with _locked(config):
            swap.exchange(folder, config.data_directory)
            kept = put_aside(config)
            (config.data_directory / swap.MARK).unlink()
            process.sync_directory(config.data_directory.parent)
        demote.finish(config, act, primary, "", upstream.bootstrap_url)
    finally:
        supervisor.start(service)
    act.step("start the server")
    _wait(config)
    return kept


def put_aside(config: Config) -> Path:
    """The old database gets the name under which it is kept."""
    stamp = f"{times.now():%Y%m%dT%H%M%SZ}"
    return growing(config).rename(config.data_directory.with_name(f"{config.data_directory.name}.diverged-{stamp}"))


def settle(config: Config, act: Act) -> None:
    """Deal with what a killed run has left: what is known as new goes, anything else is the old one, and is kept."""
    left = growing(config)
    if _unfinished(config).exists() or (left / swap.MARK).exists() or not (left / "ibdata1").exists():
        if left.exists():
            act.step(f"remove {left}, which was left unfinished")
        _discard(config)
    else:
        process.log(f"step: keep the database that was replaced as {put_aside(config)}")
    (config.data_directory / swap.MARK).unlink(missing_ok=True)


def _discard(config: Config) -> None:
    """Remove the new database; killed meanwhile, what remains of it is still known as unfinished."""
    _unfinished(config).touch(mode=0o600)
    bootstrap.discard(growing(config))
    _unfinished(config).unlink()


@contextlib.contextmanager
def _locked(config: Config) -> Iterator[None]:
    """The service's lock, as soon as its last process has let go. Raises Busy."""
    deadline = time.monotonic() + STOPPING
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(swap.locked(config))
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
        yield


def _wait(config: Config) -> None:
    deadline = time.monotonic() + STOPPING
    while not private_server.answers(config.socket):
        if time.monotonic() > deadline:
            raise ServerError(
                f"the server did not answer within {STOPPING:g} s after its start: see the log of mariadb"
            )
        time.sleep(0.05)
