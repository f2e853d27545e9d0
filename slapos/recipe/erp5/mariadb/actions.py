# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions that change a database's role, and the program that runs one of them or tells what it would do."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.preflight import Preflight
from slapos.recipe.erp5.errors import Busy, ConfigurationError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config

BUSY = 75
"""Exit status when another action runs (EX_TEMPFAIL)."""
LONGEST_INPUT = 1 << 14
Options = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """What an action can be given; `kind` is flag, url or secret-url."""

    name: str
    title: str
    kind: str
    description: str


@dataclass(frozen=True)
class Action:
    """One action; `danger`: it takes something away from somebody. Its module has run() and check()."""

    name: str
    title: str
    description: str
    danger: bool
    options: tuple[Option, ...]
    module: str

    def run(self, config: Config, act: Act, options: Options) -> str:
        """Do it; returns the closing sentence. Raises Refused, Error."""
        return self._function("run")(config, act, options)

    def check(self, config: Config, options: Options) -> Preflight:
        """What it would meet with; changes nothing. Raises Error."""
        return self._function("check")(config, options)

    def _function(self, name: str) -> Callable[..., Any]:
        # As late as this: some of them bring half the package along, and the page lists all of them.
        return getattr(importlib.import_module(f"slapos.recipe.erp5.mariadb.{self.module}"), name)


_FORCE = Option("force", "Force", "flag", "accept what the preflight says would be lost")
_CONTROL = Option(
    "control-url",
    "Primary's takeover-url",
    "secret-url",
    "the takeover-url that the primary publishes, so that it can be told what to do; else replication.control-url",
)
_PRIMARY = Option(
    "primary-url",
    "New primary's replication-primary-url",
    "secret-url",
    "the replication-primary-url that the new primary publishes; user:password@ may be left out",
)

_BOOTSTRAP = Option(
    "bootstrap-url",
    "New primary's replication-bootstrap-url",
    "secret-url",
    "for rebuild: the replication-bootstrap-url that the new primary publishes",
)

ACTIONS: dict[str, Action] = {
    one.name: one
    for one in (
        Action(
            "takeover",
            "Take over",
            "become the primary now; all that was received is applied first, and a primary that is reachable is fenced",
            True,
            (_FORCE, _CONTROL),
            "takeover",
        ),
        Action(
            "switchover",
            "Switch over",
            "exchange the roles with the primary, both being up; nothing is lost",
            True,
            (_CONTROL,),
            "switchover",
        ),
        Action(
            "rejoin",
            "Rejoin",
            "come back as a replica of the new primary",
            True,
            (
                _PRIMARY,
                Option("save", "Save", "flag", "save what only this database has as SQL, in srv/role"),
                Option("rebuild", "Rebuild", "flag", "make the database anew from a backup; the old one is kept"),
                _BOOTSTRAP,
            ),
            "rejoin",
        ),
        Action(
            "detach",
            "Detach",
            "stop following for good, and be writable, without touching the primary: the first step of a clone",
            True,
            (_FORCE,),
            "detach",
        ),
        Action(
            "follow",
            "Follow",
            "replicate from another primary, which has all that this replica has",
            False,
            (_PRIMARY, _CONTROL),
            "follow",
        ),
        Action("fence", "Fence", "refuse all writes, over restarts too, until resumed", True, (), "fence"),
        Action("resume", "Resume", "take the fence away: writable again", True, (_FORCE,), "resume"),
    )
}


# ---- the program


def perform(config: Config, name: str, by: str, options: Options) -> str:
    """Run the action under the partition's lock; returns the closing sentence. Raises Busy, Refused, Error."""
    with action.running(config, name, by) as act:
        act.sentence = ACTIONS[name].run(config, act, options)
    process.log(act.sentence)
    return act.sentence


def print_preflight(preflight: Preflight) -> int:
    """Write a verdict for people; returns 1 when the action would be refused."""
    for reason in preflight.reasons:
        print(f"{reason.level}: {reason.sentence}")
    if preflight.lost_transactions:
        print(f"would be lost: {preflight.lost_transactions} transactions, of {preflight.lost_seconds or 0:g} s")
    verdict = "is refused" if preflight.refused else "needs force" if preflight.needs_force else "can go ahead"
    print(f"{preflight.action} {verdict}")
    return int(preflight.refused or preflight.needs_force)


def read_options(name: str, text: str) -> Options:
    """The options of a JSON object. Raises ConfigurationError, which quotes none of it."""
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ConfigurationError("the options on the standard input are no JSON object, expected one such as {}")
    kinds = {option.name: bool if option.kind == "flag" else str for option in ACTIONS[name].options}
    for key, value in given.items():
        if key not in kinds:
            known = ", ".join(sorted(kinds)) or "none"
            raise ConfigurationError(f"{name} has no option {str(key)[:40]!r}, expected one of: {known}")
        if type(value) is not kinds[key]:
            raise ConfigurationError(f"the option {key} is of another type, expected {kinds[key].__name__}")
    return given


def _given(arguments: argparse.Namespace) -> Options:
    """The options on the command line, in files, and on standard input."""
    options = read_options(arguments.action, sys.stdin.read(LONGEST_INPUT) if arguments.options_on_stdin else "")
    for option in ACTIONS[arguments.action].options:
        value = getattr(arguments, option.name, None)
        if value and option.kind == "flag":
            options[option.name] = True
        elif value:
            text = sys.stdin.read(LONGEST_INPUT) if str(value) == "-" else value.read_text(encoding="utf-8")
            options[option.name] = text.strip()
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mariadb-action", description=__doc__)
    programs = parser.add_subparsers(dest="action", required=True)
    preflight = programs.add_parser("preflight", help="what an action would meet with; changes nothing")
    preflight.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    preflight.add_argument("of", nargs="?", choices=sorted(ACTIONS), default="takeover", metavar="ACTION")
    for one in ACTIONS.values():
        _add_options(programs.add_parser(one.name, help=one.description, description=one.description), one)
    return parser


def _add_options(parser: argparse.ArgumentParser, one: Action) -> None:
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would meet with")
    parser.add_argument("--by", choices=("page", "program"), default="program", help=argparse.SUPPRESS)
    parser.add_argument("--options-on-stdin", action="store_true", help="read the options as JSON from standard input")
    for option in one.options:
        if option.kind == "flag":
            parser.add_argument(f"--{option.name}", action="store_true", dest=option.name, help=option.description)
        else:  # from a file, as arguments can be read by others
            help_text = f"a file (-: standard input) that holds {option.description}"
            parser.add_argument(f"--{option.name}-file", type=Path, dest=option.name, metavar="FILE", help=help_text)


def _body(arguments: argparse.Namespace) -> int:
    config = configuration.load(arguments.config)
    if arguments.action == "preflight":
        return print_preflight(ACTIONS[arguments.of].check(config, {}))
    options = _given(arguments)
    if arguments.dry_run:
        return print_preflight(ACTIONS[arguments.action].check(config, options))
    try:
        perform(config, arguments.action, arguments.by, options)
    except Busy as error:
        process.log(f"error: {error}")
        return BUSY
    return 0


def main() -> int:
    """The program `mariadb-action`: its first argument is the action, or preflight."""
    arguments = _parser().parse_args()
    return process.program(lambda: _body(arguments))


if __name__ == "__main__":
    sys.exit(main())
