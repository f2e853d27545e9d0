# SPDX-License-Identifier: GPL-2.0-or-later
"""Talks to the supervisor of a service (supervise.py): restart, stop, start, and how it stands."""

import errno
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.errors import ConfigurationError, ServerError

RUNNING, WAITING, STOPPED = "running", "waiting", "stopped"
PATIENCE = 90.0
"""Seconds to wait for an answer: a server that does not end is killed 50 s after it was asked to."""
PAUSE = 0.01


@dataclass(frozen=True)
class Service:
    """A supervised service: `run` is the folder of its FIFO and its state."""

    run: Path
    name: str

    @property
    def fifo(self) -> Path:
        return self.run / f"{self.name}.supervise"

    @property
    def state(self) -> Path:
        return self.run / f"{self.name}.supervisor.json"

    @property
    def remedy(self) -> str:
        """What starts its supervisor: a processing skips a partition without changes. `run` is PARTITION/var/run."""
        partition = self.run.absolute().parent.parent.name
        return f"start the services of its partition (slapos node start '{partition}:*')"


@dataclass(frozen=True)
class Ended:
    """An end that nobody asked for: `at` that moment, `how` in words, after it `ran` so many seconds."""

    at: str
    how: str
    ran: float


@dataclass(frozen=True)
class Supervised:
    """How a service stands: `state` is RUNNING, WAITING (for `next_start`, after a failure) or STOPPED, `since` then.

    `child_pid` is the command's process, 0 for none, `child_began` when that was (supervise.began); `ends` the last 20;
    `answered` the requests that were carried out.
    """

    pid: int
    child_pid: int
    state: str
    since: str
    next_start: str
    ends: tuple[Ended, ...]
    answered: tuple[str, ...]
    child_began: str = ""


def status(service: Service) -> Supervised | None:
    """How the service stands; None when no supervisor runs."""
    try:
        os.close(_open(service))
        return shapes.load(service.state, Supervised)
    except (ServerError, ConfigurationError):
        return None


def restart(service: Service, timeout: float = PATIENCE) -> None:
    """Let it run anew, and return once it does (it may not answer yet); one that was stopped stays so. See `ask`."""
    _settle(service, "restart", timeout)


def stop(service: Service, timeout: float = PATIENCE) -> None:
    """Let it end, and return once nothing of it runs; `start` starts it again, and so does the end of this process."""
    _settle(service, f"stop {{}} {os.getpid()}", timeout)


def start(service: Service, timeout: float = PATIENCE) -> None:
    """Start it when it was stopped, or waits after a failure, and return once it runs (it may not answer yet)."""
    _settle(service, "start", timeout)


def ask(service: Service, request: str) -> None:
    """Ask for `restart`, `stop` or `start` without waiting. Raises ServerError when no supervisor runs."""
    descriptor = _open(service)
    try:
        os.write(descriptor, f"{request}\n".encode("ascii"))
    except OSError as error:
        raise ServerError(f"{service.fifo} takes no request ({error.strerror}): try again") from error
    finally:
        os.close(descriptor)


def _open(service: Service) -> int:
    try:
        return os.open(service.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            raise
        raise ServerError(
            f"no supervisor of the service {service.name} listens on {service.fifo}, expected the service to run:"
            f" {service.remedy}"
        ) from error


def _settle(service: Service, request: str, timeout: float) -> None:
    """Ask, and wait until it is done. Raises ServerError when no supervisor runs, or not within `timeout` seconds."""
    identifier = secrets.token_hex(8)
    ask(service, request.format(identifier) if "{}" in request else f"{request} {identifier}")
    deadline = time.monotonic() + timeout
    while True:
        found = status(service)
        if found and identifier in found.answered:
            return
        if found is None:
            os.close(_open(service))  # says what is wrong, unless the state is only being replaced
        if time.monotonic() >= deadline:
            raise ServerError(
                f"the supervisor of the service {service.name} did not {request.split()[0]} it within {timeout:g} s"
                f" (it is {found.state if found else 'unknown'}): see the service's log"
            )
        time.sleep(PAUSE)
