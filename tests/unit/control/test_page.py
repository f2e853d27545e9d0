# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page of whatever service, with its templates; and its pure parts."""

import json
from pathlib import Path

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import page, session, token
from slapos.recipe.erp5.control.actions import Action, Option
from slapos.recipe.erp5.control.page import Page
from slapos.recipe.erp5.control.preflight import Preflight, Reason
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.errors import ServerError
from tests.unit.control.fake import service as fake
from tests.unit.control.fake.service import SWITCH, TOKEN, Lamp

REASONS = (
    Reason("info", "it is night"),
    Reason("warn", "the backup is old"),
    Reason("force", "7 transactions are <not> here"),
)


def test_each_option_is_taken_as_its_kind():
    action = Action("a", "A", "a", True, (*SWITCH.options[:1], Option("url", "U", "secret-url", "u")), "none")
    form = {"option-force": "1", "option-url": " https://x ", "option-other": "1", "guard": "g"}
    assert page.options(action, form) == {"force": True, "url": "https://x"}
    assert page.options(action, {"option-url": ""}) == {}


@pytest.mark.parametrize("error", [ServerError("no server"), OSError(2, "no"), ZeroDivisionError("secret")])
def test_a_preflight_that_cannot_be_made_stands_in_the_way(tmp_path, monkeypatch, error):
    def check(*_):
        raise error

    monkeypatch.setattr(Action, "check", check)
    found = page.checked(SWITCH, fake.partition(tmp_path / "p"), {})
    assert found.refused and found.reasons[0].sentence.startswith("it cannot be looked at: ")
    assert "secret" not in found.reasons[0].sentence


@pytest.fixture
def config(tmp_path):
    return fake.partition(tmp_path / "p")


@pytest.fixture
def sampler(config):
    return Sampler(Lamp(), fake.json_of(config))


@pytest.fixture
def get(config, sampler):
    """A function that asks a lamp's page; `headers` have `_` for `-`."""
    one = Page(Lamp(), fake.json_of(config), sampler)

    def get(route: str, **headers: str) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return one.answer(Request(EnvironBuilder(f"/control{route}", headers=Headers(sent)).get_environ()))

    return get


@pytest.fixture
def asked(config, get):
    """The same for who has a session: the page's text."""
    cookie = f"{session.cookie_name(config.control_port)}={session.begin(TOKEN)}"
    return lambda route: get(route, Cookie=cookie).get_data(as_text=True)


def test_what_the_service_shows_is_there(asked, config, sampler):
    text = asked("/")
    assert "<title>Well: test</title>" in text and "Nobody has looked yet" in text
    assert 'Off<span class="aside">&lt;dim&gt;</span>' in text
    assert '<div><dt>Glass</dt><dd class="code">clear</dd></div>' in text
    assert '<h2 id="lag">' not in text
    config.path("srv", "on").touch()
    sampler.once()
    text = asked("/")
    assert "All is well" in text and "On<span" in text
    assert '<h2 id="lag">Light</h2>' in text and "at most 3 s, 3 s when last known" in text


def test_who_has_no_session_is_told_what_it_is_and_what_shows_the_token(get):
    text = get("/").get_data(as_text=True)
    assert "This page looks after a lamp. It opens to who has its token." in text
    assert "<code>bin/lamp-control-token</code> shows it." in text


def test_programs_get_the_same(get, config):
    assert get("/metrics").status_code == 401
    assert get("/metrics").headers["WWW-Authenticate"] == 'Bearer realm="lamp"'
    read = f"Bearer {token.read_token(TOKEN)}"
    status = json.loads(get("/status.json", Authorization=read).get_data())
    assert (status["instance"], status["on"], status["actions"]) == ("test", False, [])
    assert "lamp_on 0.0\nlamp_action_running 0.0\n" in "".join(
        f"{line}\n"
        for line in get("/metrics", Authorization=read).get_data(as_text=True).splitlines()
        if not line.startswith("#")
    )


def test_what_was_seen_long_ago_is_a_problem(asked, config, monkeypatch):
    old = Sampler(Lamp(), fake.json_of(config), clock=lambda: times.parse("2026-11-25T03:00:00Z"))
    old.once()
    found = Lamp().facts(config, old, times.parse("2026-11-25T03:02:00Z"))
    assert found.problems == (
        "this page shows what was seen at 2026-11-25T03:00:00Z, expected a look every few seconds: read the log of the "
        "service lamp-control",
    )


def test_whatever_actions_there_are_are_offered(asked):
    text = asked("/")
    assert 'href="/action/switch"' in text and "turn the &lt;lamp&gt; on or off" in text


def test_an_action_says_what_was_found_in_words_and_what_would_be_lost(asked, monkeypatch):
    monkeypatch.setattr(Action, "check", lambda *_: Preflight("switch", REASONS, 7, 12.5))
    text = " ".join(asked("/action/switch").split())
    assert '<h3>Only by force</h3> <ul class="reasons force"> <li>7 transactions are &lt;not&gt; here</li>' in text
    assert "<h3>Mind</h3>" in text and "<h3>As it is</h3>" in text
    assert "7 transactions, of about 12 s." in text
    assert 'name="option-force"' in text and "Type <code>test</code>." in text


def test_force_is_offered_only_where_it_is_needed(asked, monkeypatch):
    monkeypatch.setattr(Action, "check", lambda *_: Preflight("switch", REASONS[:2], 0))
    text = asked("/action/switch")
    assert "It can go ahead" in text and 'name="option-force"' not in text
    assert "No transaction, by all that is known here." in text


def test_promises_are_read_and_a_bad_file_is_none(asked, config):
    folder = config.path(".slapgrid/promise/result")
    folder.mkdir(parents=True)
    result = {"title": "lamp-oil", "result": {"failed": True, "message": "the oil\nis out"}}
    (folder / "lamp-oil.status.json").write_text(json.dumps(result))
    (folder / "broken.status.json").write_text("{")
    text = asked("/")
    assert '<p class="problem">lamp-oil: the oil is out</p>' in text
    assert "<title>Needs attention: test</title>" in text


def test_templates_and_files_are_packaged():
    """Each is named in the source; setup.py has to take them along."""
    folder = Path(page.__file__).parent
    assert {path.name for path in (folder / "static").iterdir()} == set(page.STATIC)
    assert {path.suffix for path in (folder / "templates").iterdir()} == {".html"}
