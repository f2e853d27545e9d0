# SPDX-License-Identifier: GPL-2.0-or-later
"""What actions that change a role are made of, and the program that runs one of them or tells what it would do."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.preflight import Preflight
from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.errors import Busy, ConfigurationError

BUSY = 75
"""Exit status when another action runs (EX_TEMPFAIL)."""
LONGEST_INPUT = 1 << 14
Options = dict[str, Any]
_DESCRIPTION = "Runs one of the actions that change this instance's role, or tells what it would do."


@dataclass(frozen=True)
class Option:
    """What an action can be given; `kind` is flag, url or secret-url."""

    name: str
    title: str
    kind: str
    description: str


@dataclass(frozen=True)
class Action:
    """One action; `danger`: it takes something away from somebody. The module named `module` has run() and check()."""

    name: str
    title: str
    description: str
    danger: bool
    options: tuple[Option, ...]
    module: str

    def run(self, config: Configuration, act: Act, options: Options) -> str:
        """Do it; returns the closing sentence. Raises Refused, Error."""
        return self._function("run")(config, act, options)

    def check(self, config: Configuration, options: Options) -> Preflight:
        """What it would meet with; changes nothing. Raises Error."""
        return self._function("check")(config, options)

    def _function(self, name: str) -> Callable[..., Any]:
        # As late as this: some of them bring half the package along, and the page lists all of them.
        return getattr(importlib.import_module(self.module), name)


# ---- the program


def perform(config: Configuration, one: Action, by: str, options: Options) -> str:
    """Run the action under the partition's lock; returns the closing sentence. Raises Busy, Refused, Error."""
    with action.running(config, one.name, by) as act:
        act.sentence = one.run(config, act, options)
    process.log(act.sentence)
    return act.sentence


def print_preflight(preflight: Preflight) -> int:
    """Write a verdict for people; returns 1 when the action would be refused."""
    for reason in preflight.reasons:
        print(f"{reason.level}: {reason.sentence}")
    if preflight.lost and not preflight.refused:
        print(f"would be lost: {preflight.lost}")
    verdict = "is refused" if preflight.refused else "needs force" if preflight.needs_force else "can go ahead"
    print(f"{preflight.action} {verdict}")
    return int(preflight.refused or preflight.needs_force)


def read_options(one: Action, text: str) -> Options:
    """The options of a JSON object. Raises ConfigurationError, which quotes none of it."""
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ConfigurationError("the options on the standard input are no JSON object, expected one such as {}")
    kinds = {option.name: bool if option.kind == "flag" else str for option in one.options}
    for key, value in given.items():
        if key not in kinds:
            known = ", ".join(sorted(kinds)) or "none"
            raise ConfigurationError(f"{one.name} has no option {str(key)[:40]!r}, expected one of: {known}")
        if type(value) is not kinds[key]:
            raise ConfigurationError(f"the option {key} is of another type, expected {kinds[key].__name__}")
    return given


def _given(one: Action, arguments: argparse.Namespace) -> Options:
    """The options on the command line, in files, and on standard input."""
    options = read_options(one, sys.stdin.read(LONGEST_INPUT) if arguments.options_on_stdin else "")
    for option in one.options:
        value = getattr(arguments, option.name, None)
        if value and option.kind == "flag":
            options[option.name] = True
        elif value:
            text = sys.stdin.read(LONGEST_INPUT) if str(value) == "-" else value.read_text(encoding="utf-8")
            options[option.name] = text.strip()
    return options


def _parser(service: Service) -> argparse.ArgumentParser:
    actions, config_help = service.actions, f"the partition's {service.json}"
    text = f"{_DESCRIPTION} Each action needs --config, {config_help}, which the programs in its bin give."
    parser = argparse.ArgumentParser(prog=f"{service.prefix}-action", description=text, allow_abbrev=False)
    programs = parser.add_subparsers(dest="action", required=True)

    def add(name: str, description: str) -> argparse.ArgumentParser:
        # Named as the partition's own program, bin/PREFIX-NAME, through which people come here.
        prog = f"{service.prefix}-{name}"
        made = programs.add_parser(name, prog=prog, help=description, description=description, allow_abbrev=False)
        made.add_argument("--config", required=True, help=argparse.SUPPRESS)
        return made

    first = next(iter(actions))
    preflight = add("preflight", "what an action would meet with; changes nothing")
    preflight.add_argument("of", nargs="?", choices=sorted(actions), default=first, help=f"the action, {first} if none")
    for one in actions.values():
        _add_options(add(one.name, one.description), one)
    return parser


def _add_options(parser: argparse.ArgumentParser, one: Action) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what it would meet with")
    parser.add_argument("--by", choices=("page", "program"), default="program", help=argparse.SUPPRESS)
    parser.add_argument("--options-on-stdin", action="store_true", help="read the options as JSON from standard input")
    for option in one.options:
        if option.kind == "flag":
            parser.add_argument(f"--{option.name}", action="store_true", dest=option.name, help=option.description)
        else:  # from a file, as arguments can be read by others
            help_text = f"a file (-: standard input) that holds {option.description}"
            parser.add_argument(f"--{option.name}-file", type=Path, dest=option.name, metavar="FILE", help=help_text)


def _body(service: Service, arguments: argparse.Namespace) -> int:
    config = service.load(arguments.config)
    if arguments.action == "preflight":
        return print_preflight(service.actions[arguments.of].check(config, {}))
    one = service.actions[arguments.action]
    options = _given(one, arguments)
    if arguments.dry_run:
        return print_preflight(one.check(config, options))
    try:
        perform(config, one, arguments.by, options)
    except Busy as error:
        process.log(f"error: {error}")
        return BUSY
    return 0


def main(service: Service, arguments: Sequence[str] | None = None) -> int:
    """The program PREFIX-action: its first argument is the action, or preflight. Exit codes: process.py's, and BUSY."""
    given = _parser(service).parse_args(arguments)
    return process.program(lambda: _body(service, given))
