# SPDX-License-Identifier: GPL-2.0-or-later
"""What the program of a service's actions accepts, says and does."""

import io
import sys

import pytest

from slapos.recipe.erp5.control import actions, journal
from slapos.recipe.erp5.control.actions import BUSY
from slapos.recipe.erp5.control.preflight import FORCE, INFO, REFUSE, WARN, Preflight, Reason, require
from slapos.recipe.erp5.errors import ConfigurationError, Refused
from tests.unit.control.fake import service as fake
from tests.unit.control.fake.service import LAMP, SWITCH


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("{}", {}),
        ('{"force": true, "by-url": "https://x/#t"}', {"force": True, "by-url": "https://x/#t"}),
    ],
)
def test_options_that_are_taken(text, options):
    assert actions.read_options(SWITCH, text) == options


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("secret", "the options on the standard input are no JSON object, expected one such as {}"),
        ("[1]", "the options on the standard input are no JSON object, expected one such as {}"),
        ('{"other": "secret"}', "switch has no option 'other', expected one of: by-url, force"),
        ('{"force": "secret"}', "the option force is of another type, expected bool"),
        ('{"by-url": true}', "the option by-url is of another type, expected str"),
    ],
)
def test_options_that_are_refused_without_a_word_of_them(text, sentence):
    with pytest.raises(ConfigurationError) as raised:
        actions.read_options(SWITCH, text)
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


@pytest.mark.parametrize(
    ("transactions", "seconds", "lines"),
    [
        (None, None, []),
        (None, 0.0, []),
        (None, 3.25, ["would be lost: what was written within 3.2 s"]),
        (0, 0.0, []),
        (7, 3.0, ["would be lost: 7 transactions, of 3 s"]),
        (1, None, ["would be lost: 1 transaction"]),
        (1, 0.0, ["would be lost: 1 transaction"]),
    ],
)
def test_what_would_be_lost_is_told(capsys, transactions, seconds, lines):
    assert actions.print_preflight(Preflight("takeover", (), transactions, seconds)) == 0
    assert capsys.readouterr().out.splitlines() == [*lines, "takeover can go ahead"]


def test_nothing_would_be_lost_by_what_is_refused_and_what_is_kept_is_told(capsys):
    actions.print_preflight(Preflight("rejoin", (Reason(REFUSE, "x"),), 7))
    assert capsys.readouterr().out.splitlines() == ["refuse: x", "rejoin is refused"]
    actions.print_preflight(Preflight("rejoin", (), 7, kept=", which the old storages keep"))
    assert capsys.readouterr().out.splitlines()[0] == "would be lost: 7 transactions, which the old storages keep"


# ---- the program


@pytest.fixture
def config(tmp_path) -> fake.Config:
    return fake.partition(tmp_path / "p")


def run(config: fake.Config, *arguments: str) -> int:
    name, *more = arguments
    return actions.main(LAMP, [name, "--config", str(fake.json_of(config)), *more])


def test_an_action_is_run_and_its_end_is_in_the_journal(config, capsys):
    assert run(config, "switch") == 0
    assert config.is_on
    assert "step: turn it\n" in (logged := capsys.readouterr().err) and logged.endswith("the lamp is on\n")
    (entry,) = journal.last(config)
    assert (entry.action, entry.by, entry.outcome, entry.sentence) == ("switch", "program", "done", "the lamp is on")


def test_one_that_is_refused_changes_nothing_until_it_is_forced(config, capsys, monkeypatch):
    run(config, "switch")
    assert run(config, "switch") == 1 and config.is_on
    assert "switch is refused: it is dark then; or force it (--force), and accept that" in capsys.readouterr().err
    assert run(config, "switch", "--force") == 0 and not config.is_on
    run(config, "switch")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"force": true}'))
    assert run(config, "switch", "--options-on-stdin", "--by", "page") == 0 and not config.is_on
    assert [entry.by for entry in journal.last(config, 2)] == ["page", "program"]


def test_it_is_only_told_what_would_be(config, capsys):
    assert [run(config, "switch", "--dry-run"), run(config, "preflight"), run(config, "preflight", "switch")] == [0] * 3
    assert capsys.readouterr().out == "switch can go ahead\n" * 3
    assert not config.is_on and journal.last(config) == ()


def test_help_has_the_name_of_the_partitions_own_program_and_all_actions(config, capsys):
    for name, usage in (
        ("preflight", "usage: lamp-preflight [-h] [{switch}]\n"),
        ("switch", "usage: lamp-switch [-h] [--dry-run] [--options-on-stdin] [--force]"),
    ):
        with pytest.raises(SystemExit) as raised:
            run(config, name, "--help")
        assert raised.value.code == 0
        assert capsys.readouterr().out.startswith(usage)


def test_an_option_has_to_be_written_out(config, capsys):
    with pytest.raises(SystemExit):
        run(config, "switch", "--forc")
    assert not config.is_on and "unrecognized arguments: --forc" in capsys.readouterr().err


def test_another_one_that_runs_is_an_exit_code_of_its_own(config):
    with actions.action.place(config, "other"):
        assert run(config, "switch") == BUSY
