# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service gives so that its partition has all that is here: page, JSON, metrics, actions, jobs, peers, watcher.

To plug a service in: a subclass of Service, one object of it, and for each program a module whose main() is one call:

    PREFIX-control         control.main.main(SERVICE)       the one Python process of the partition
    PREFIX-control-token   control.token.main(SERVICE)      shows the page's URL, replaces its token
    PREFIX-action          control.actions.main(SERVICE)    runs an action, or tells what it would do

Methods import late what is large: the process that schedules jobs should not hold all that a page or a takeover needs.
mariadb/service.py is one, tests/unit/control/fake/service.py the smallest.
"""

import abc
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.peer import NOBODY, Peers

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from slapos.recipe.erp5.control.actions import Action
    from slapos.recipe.erp5.control.face import Face
    from slapos.recipe.erp5.control.facts import Facts
    from slapos.recipe.erp5.control.sampler import Sampler, Sight
    from slapos.recipe.erp5.control.scheduler import Plan
    from slapos.recipe.erp5.control.web import Endpoint

C = TypeVar("C", bound=Configuration)
C_contra = TypeVar("C_contra", contravariant=True)
F = TypeVar("F", bound="Facts")
Attempt = Callable[[str, Callable[[], None]], None]
"""Does the step of that name, or leaves it for later. Raises nothing, so that each step has its turn."""
Keeper = Callable[[Path, Event], None]
"""Goes on, in a thread, until the event is set; it gets the path of the configuration."""


class Tending(Protocol[C_contra]):
    """What the control process sees to at each turn (every 30 s at least); both are called from its main thread."""

    def follow(self, config: C_contra) -> None:
        """Take a configuration that has changed."""

    def look(self) -> None:
        """Look, and act when it is due. Raises Error, OSError: a line in the log, and tried again at the next turn."""


class Nothing:
    """A Tending with nothing to do."""

    def follow(self, config: Configuration) -> None:
        pass

    def look(self) -> None:
        pass


class Service(abc.ABC, Generic[C, F]):
    """See the module's text; `prefix` begins the names of the programs, `json` is the configuration in the partition.

    `about` says what the page looks after, "This page looks after ..."; `package` has the modules `actions`, `sampler`,
    `facts`, `face` and `metrics`; `actions_module` is what `python -m` runs as PREFIX-action; `has_page`: without one
    there is no page, no sampler, nothing but jobs and peers.
    """

    prefix: str
    json: str
    about: str
    package: str
    actions_module: str
    has_page: bool = True
    peers: Peers = NOBODY

    @abc.abstractmethod
    def load(self, path: str | Path) -> C:
        """The configuration in the file `path`. Raises ConfigurationError."""

    # ---- the jobs

    @abc.abstractmethod
    def plans(self, config: C, path: Path) -> tuple["Plan", ...]:
        """The regular jobs that `config`, read from `path`, asks for. Raises ConfigurationError."""

    def prepare(self, config: C) -> None:
        """Put in order, at the start, what a killed run left behind. Raises nothing."""

    # ---- what the process does besides

    def tending(self, config: C) -> Tending[C]:
        """What it sees to at each turn."""
        return Nothing()

    def threads(self) -> Mapping[str, Keeper]:
        """Threads that it keeps, by name."""
        return {}

    def endpoints(self, path: Path) -> Sequence["Endpoint"]:
        """What it answers on its socket beside the page and other instances; called once."""
        return ()

    # ---- what goes on by itself (watcher.py)

    steady: frozenset[str] = frozenset()
    """Steps that are tried at the same short intervals for ever."""

    def is_open(self, config: C) -> bool:
        """Whether anything was left open to go on with: a cheap look, every 2 s. Raises Error."""
        return False

    def watch(self, config: C, now: datetime, attempt: Attempt) -> None:
        """Let `attempt` do what is to be done now; each step raises Error, OSError: it is tried again."""

    # ---- the page, and the same for programs: all of it where there is a page, of modules of `package`

    @property
    def actions(self) -> Mapping[str, "Action"]:
        """By name, in the order of the page; the first is what `preflight` means when none is named."""
        return self._module("actions").ACTIONS

    def sight(self) -> "Sight":
        """How the sampler looks at it every few seconds."""
        return self._module("sampler").Sight()

    def facts(self, config: C, sampler: "Sampler", now: datetime) -> F:
        """All that is to be told; as a dataclass it becomes status.json, too. Raises Error."""
        return self._module("facts").gather(config, sampler, now)

    def face(self, facts: F) -> "Face":
        """What the page shows of it."""
        return self._module("face").of(facts)

    def metrics(self, facts: F) -> Iterable["Metric"]:
        """The same for Prometheus."""
        return self._module("metrics").of(facts)

    def _module(self, name: str) -> Any:
        """One of the service's own, which is imported when it is asked for."""
        return importlib.import_module(f"{self.package}.{name}")
