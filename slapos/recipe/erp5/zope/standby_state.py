# SPDX-License-Identifier: GPL-2.0-or-later
"""How the Zopes of a partition stand, as their standby supervisor tells, and requests to it: hold, release, restart."""

import errno
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import supervise
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.supervisor import Ended, Service
from slapos.recipe.erp5.zope.standby_decide import ALL

PATIENCE = 60.0
"""Seconds to wait for an answer: a Zope that does not end is killed 20 s after it was asked to."""
PAUSE = 0.02


@dataclass(frozen=True)
class Zope:
    """One Zope: `state` is one of standby_decide's, since that moment, for that reason; `child_pid` is 0 without a
    process; `ends` are the last 20 that nobody asked for, of all supervisors."""

    name: str
    family: str
    port: int
    state: str
    reason: str
    since: str
    next_start: str
    child_pid: int
    child_began: str
    ends: tuple[Ended, ...]


@dataclass(frozen=True)
class Database:
    """What is followed: its name in words, its state ("" when not known) since that moment, and why it is not known."""

    name: str
    state: str
    detail: str
    since: str


@dataclass(frozen=True)
class Standing:
    """How all stand; `held` names families, "*" being all; `served`: one of them has served at least once; `answered`:
    the last 20 requests that were carried out."""

    pid: int
    database: Database
    held: tuple[str, ...]
    served: bool
    zopes: tuple[Zope, ...]
    answered: tuple[str, ...]

    def zope(self, name: str) -> Zope:
        return next(zope for zope in self.zopes if zope.name == name)


def fifo(run: Path) -> Path:
    return run / "zope.standby"


def service(run: Path) -> Service:
    """The standby supervisor itself, which is started again when it dies."""
    return Service(run, "zope-standby")


def nobody(run: Path) -> str:
    """The sentence for when there is no supervisor."""
    return f"no standby supervisor listens on {fifo(run)}, expected it to run: {service(run).remedy}"


def status(run: Path) -> Standing | None:
    """How the Zopes stand, `run` being the folder of the state; None when no supervisor runs."""
    try:
        os.close(_open(run))
        found = shapes.load(run / "zope.standby.json", Standing)
    except (ServerError, ConfigurationError):
        return None
    # One that has just started has not written yet how they stand now.
    return found if supervise.began(found.pid) else None


def hold(run: Path, family: str = ALL, timeout: float = PATIENCE) -> None:
    """Hold a family back, and return once none of it runs. Raises ServerError, as all of these."""
    _settle(run, "hold", family, timeout)


def release(run: Path, family: str = ALL, timeout: float = PATIENCE) -> None:
    """Let a family run again when its database serves; it need not yet when this returns."""
    _settle(run, "release", family, timeout)


def restart(run: Path, family: str = ALL, timeout: float = PATIENCE) -> None:
    """Let the processes of a family end, and return once they have; those that may run start again by themselves."""
    _settle(run, "restart", family, timeout)


def _open(run: Path) -> int:
    try:
        return os.open(fifo(run), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            raise
        raise ServerError(nobody(run)) from error


def _settle(run: Path, command: str, family: str, timeout: float) -> None:
    identifier = secrets.token_hex(8)
    descriptor = _open(run)
    try:
        os.write(descriptor, f"{command} {family} {identifier}\n".encode("ascii"))
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + timeout
    while True:
        found = status(run)
        if found and identifier in found.answered:
            return
        if time.monotonic() >= deadline:
            raise ServerError(f"the standby supervisor did not {command} within {timeout:g} s: see its log")
        time.sleep(PAUSE)
