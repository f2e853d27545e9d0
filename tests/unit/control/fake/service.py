# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest service with all that control/ takes: a lamp, which is on while a file is there."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control import action, facts, journal, metrics, plot
from slapos.recipe.erp5.control.actions import Action, Option
from slapos.recipe.erp5.control.configuration import Configuration, Places
from slapos.recipe.erp5.control.face import Face, Figures, Row
from slapos.recipe.erp5.control.peer import Peers, Question
from slapos.recipe.erp5.control.sampler import Look, Sample, Sampler, Sight
from slapos.recipe.erp5.control.scheduler import Plan
from slapos.recipe.erp5.control.service import Attempt, Service
from slapos.recipe.erp5.control.web import Endpoint

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Config(Places):
    """`etc/lamp.json`."""

    instance: str
    partition: str
    port: int
    every: str = "daily"

    prefix = "lamp"
    control_host = "127.0.0.2"

    @property
    def control_port(self) -> int:
        return self.port

    @property
    def is_on(self) -> bool:
        return self.path("srv", "on").exists()


@dataclass(frozen=True)
class Facts(facts.Facts):
    """What there is to be told of a lamp."""

    on: bool
    samples: tuple[Sample, ...]


class Eye(Sight):
    """Looks at the lamp, which has a lag of 3 s while it is on."""

    subject, longest = "the lamp", 1.0

    def look(self, config: Config, now: datetime) -> Look:
        text = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        return Look(now, Sample(text, 3 if config.is_on else None), config.is_on)


SWITCH = Action(
    "switch",
    "Switch",
    "turn the <lamp> on or off",
    True,
    (Option("force", "Force", "flag", "accept the dark"), Option("by-url", "By", "secret-url", "who says so")),
    "tests.unit.control.fake.switch",
)


class Lamp(Service[Config, Facts]):
    """What is done and what goes wrong may be changed by tests: its parts are attributes."""

    prefix = "lamp"
    json = "etc/lamp.json"
    about = "a lamp"
    actions_module = "tests.unit.control.fake.switch"
    actions: Mapping[str, Action] = {"switch": SWITCH}
    steady = frozenset({"steady"})

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.error: Exception | None = None
        self.open = False
        questions = {
            "switch": Question(frozenset({"by", "reason"}), frozenset({"control-url"})),
            "look": Question(),
            "state": Question(frozenset({"id"}), by_its_own_secret=True),
        }
        self.peers = Peers(questions, self.do, lambda config, name: "5" * 32 if name == "known" else "")

    def load(self, path: str | Path) -> Config:
        return shapes.load(path, Config)

    def plans(self, config: Config, path: Path) -> tuple[Plan, ...]:
        return (Plan("dust", config.every, (sys.executable, "-c", "")),)

    def do(self, config: Config, name: str, parameters: dict[str, str]) -> dict[str, Any]:
        if self.error:
            raise self.error
        self.asked.append((name, parameters))
        return {"on": config.is_on}

    def endpoints(self, path: Path) -> Sequence[Endpoint]:
        return (Endpoint("/lamp", lambda request: self.answer(request), ("GET",)),)

    def answer(self, request: Request) -> Response:
        if self.error:
            raise self.error
        return Response("light", 200)

    def is_open(self, config: Config) -> bool:
        return self.open

    def watch(self, config: Config, now: datetime, attempt: Attempt) -> None:
        raise NotImplementedError

    def sight(self) -> Eye:
        return Eye()

    def facts(self, config: Config, sampler: Sampler, now: datetime) -> Facts:
        promises = tuple(facts.promises(config))
        return Facts(
            instance=config.instance,
            at=sampler.look.sample.at if sampler.look else "",
            problems=(*facts.old(sampler.look, now, self.prefix), *facts.failing(promises)),
            notes=(),
            running=action.current(config),
            actions=journal.last(config),
            promises=promises,
            now=now,
            on=config.is_on,
            samples=sampler.hour(),
        )

    def face(self, facts: Facts) -> Face:
        figures = Figures("Light", (Row("Lag", "3 s"),), plot.plot(facts.samples, facts.now)) if facts.on else None
        return Face("On" if facts.on else "Off", "<dim>", figures, ("switch",), (Row("Glass", "clear", code=True),))

    def metrics(self, facts: Facts) -> Iterator[Metric]:
        yield metrics.one("lamp_on", "Whether it is on.", facts.on)
        yield from metrics.promises(self.prefix, facts)
        yield from metrics.actions(self.prefix, facts)


LAMP = Lamp()


def partition(folder: Path, **values: Any) -> Config:
    """A lamp's partition in `folder`, with its token and its configuration."""
    for name in ("etc", "srv/kept", "var/run"):
        (folder / name).mkdir(parents=True)
    config = Config("test", str(folder), 26003, **values)
    config.control_token.write_text(TOKEN + "\n")
    return save(config)


def save(config: Config, **changes: Any) -> Config:
    """Write its configuration, with `changes`."""
    changed = dataclasses.replace(config, **changes)
    shapes.save(json_of(changed), changed)
    return changed


def json_of(config: Configuration) -> Path:
    """Where its configuration is."""
    return config.path("etc", "lamp.json")
