# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page's pure parts, and its templates with whatever actions there are."""

import json
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control import page, session
from slapos.recipe.erp5.control.page import Page
from slapos.recipe.erp5.control.preflight import Preflight, Reason
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb.actions import Action, Option
from tests.unit.mariadb import partition

TOKEN = "0123456789abcdef0123456789abcdef"
FIRST = Action("first", "Do it", "do the <first> thing", True, (Option("force", "Force", "flag", "accept"),), "none")
REASONS = (
    Reason("info", "it is night"),
    Reason("warn", "the backup is old"),
    Reason("force", "7 transactions are <not> here"),
)


def test_each_option_is_taken_as_its_kind():
    action = Action("a", "A", "a", True, (*FIRST.options, Option("url", "U", "secret-url", "u")), "none")
    form = {"option-force": "1", "option-url": " https://x ", "option-other": "1", "guard": "g"}
    assert page.options(action, form) == {"force": True, "url": "https://x"}
    assert page.options(action, {"option-url": ""}) == {}


@pytest.mark.parametrize("error", [ServerError("no server"), OSError(2, "no"), ZeroDivisionError("secret")])
def test_a_preflight_that_cannot_be_made_stands_in_the_way(tmp_path, monkeypatch, error):
    def check(*_):
        raise error

    monkeypatch.setattr(Action, "check", check)
    found = page.checked(FIRST, partition.config(tmp_path), {})
    assert found.refused and found.reasons[0].sentence.startswith("it cannot be looked at: ")
    assert "secret" not in found.reasons[0].sentence


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A function that asks a page, with a session, of a partition without a server; it has one action."""
    made = partition.config(tmp_path)
    made.control_token.parent.mkdir(parents=True)
    made.control_token.write_text(TOKEN)
    path = made.path("etc", "mariadb.json")
    shapes.save(path, made)
    monkeypatch.setattr(page, "ACTIONS", {"first": FIRST})
    one = Page(path, Sampler(path))
    cookie = f"{session.cookie_name(made.network.control_port)}={session.begin(TOKEN)}"

    def ask(route: str, **options) -> str:
        headers = {"Cookie": cookie}
        request = Request(EnvironBuilder(f"/control{route}", headers=headers, **options).get_environ())
        return one.answer(request).get_data(as_text=True)

    return ask


def test_whatever_actions_there_are_are_offered(asked):
    text = asked("/")
    assert 'href="/action/first"' in text and "do the &lt;first&gt; thing" in text


def test_an_action_says_what_was_found_in_words_and_what_would_be_lost(asked, monkeypatch):
    monkeypatch.setattr(Action, "check", lambda *_: Preflight("first", REASONS, 7, 12.5))
    text = " ".join(asked("/action/first").split())
    assert '<h3>Only by force</h3> <ul class="reasons force"> <li>7 transactions are &lt;not&gt; here</li>' in text
    assert "<h3>Mind</h3>" in text and "<h3>As it is</h3>" in text
    assert "7 transactions, of about 12 s." in text
    assert 'name="option-force"' in text and "Type <code>test</code>." in text


def test_force_is_offered_only_where_it_is_needed(asked, monkeypatch):
    monkeypatch.setattr(Action, "check", lambda *_: Preflight("first", REASONS[:2], 0))
    text = asked("/action/first")
    assert "It can go ahead" in text and 'name="option-force"' not in text
    assert "No transaction, by all that is known here." in text


def test_promises_are_read_and_a_bad_file_is_none(asked, tmp_path):
    folder = tmp_path / ".slapgrid/promise/result"
    folder.mkdir(parents=True)
    result = {"title": "mariadb-disk", "result": {"failed": True, "message": "the disk\nis full"}}
    (folder / "mariadb-disk.status.json").write_text(json.dumps(result))
    (folder / "broken.status.json").write_text("{")
    text = asked("/")
    assert '<p class="problem">mariadb-disk: the disk is full</p>' in text
    assert "<title>Needs attention: test</title>" in text


def test_templates_and_files_are_packaged():
    """Each is named in the source; setup.py has to take them along."""
    folder = Path(page.__file__).parent
    assert {path.name for path in (folder / "static").iterdir()} == set(page.STATIC)
    assert {path.suffix for path in (folder / "templates").iterdir()} == {".html"}
