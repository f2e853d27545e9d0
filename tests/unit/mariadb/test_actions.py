# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of actions, and what their program accepts."""

import importlib

import pytest

from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, WARN, Preflight, Reason, require
from slapos.recipe.erp5.errors import ConfigurationError, Refused
from slapos.recipe.erp5.mariadb import actions
from slapos.recipe.erp5.mariadb.actions import ACTIONS


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_each_action_can_be_run_and_checked(name):
    module = importlib.import_module(f"slapos.recipe.erp5.mariadb.{ACTIONS[name].module}")
    assert callable(module.run)
    assert callable(module.check)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("{}", {}),
        ('{"force": true, "control-url": "https://x/#t"}', {"force": True, "control-url": "https://x/#t"}),
    ],
)
def test_options_that_are_taken(text, options):
    assert actions.read_options("takeover", text) == options


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("secret", "the options on the standard input are no JSON object, expected one such as {}"),
        ("[1]", "the options on the standard input are no JSON object, expected one such as {}"),
        ('{"other": "secret"}', "takeover has no option 'other', expected one of: control-url, force"),
        ('{"force": "secret"}', "the option force is of another type, expected bool"),
        ('{"control-url": true}', "the option control-url is of another type, expected str"),
    ],
)
def test_options_that_are_refused_without_a_word_of_them(text, sentence):
    with pytest.raises(ConfigurationError) as raised:
        actions.read_options("takeover", text)
    assert str(raised.value) == sentence


def test_what_a_preflight_allows():
    fine = Preflight("takeover", (Reason(INFO, "a"), Reason(WARN, "b")))
    require(fine, forced=False)
    force = Preflight("takeover", (Reason(FORCE, "a"), Reason(FORCE, "b"), Reason(INFO, "c")))
    require(force, forced=True)
    with pytest.raises(Refused, match=r"^takeover is refused: a; b; or force it \(--force\), and accept that$"):
        require(force, forced=False)
    refused = Preflight("takeover", (Reason(REFUSE, "a"), Reason(FORCE, "b")))
    with pytest.raises(Refused, match=r"^takeover is refused: a$"):
        require(refused, forced=True)


@pytest.mark.parametrize(
    ("reasons", "status", "verdict"),
    [((), 0, "can go ahead"), ((Reason(FORCE, "x"),), 1, "needs force"), ((Reason(REFUSE, "x"),), 1, "is refused")],
)
def test_what_a_dry_run_prints(capsys, reasons, status, verdict):
    assert actions.print_preflight(Preflight("takeover", reasons)) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"{one.level}: x" for one in reasons), f"takeover {verdict}"]
