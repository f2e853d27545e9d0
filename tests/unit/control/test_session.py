# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions, forms and tokens of the control page: what is accepted, and all that is not."""

from datetime import datetime, timedelta

import pytest
from werkzeug.datastructures import Headers

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import session, token
from slapos.recipe.erp5.control.session import Forms

TOKEN = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


def test_a_session_is_found_again():
    first, second = (session.find(TOKEN, session.begin(TOKEN)) for _ in range(2))
    assert first and second and first.id != second.id
    assert TOKEN not in session.begin(TOKEN)


@pytest.mark.parametrize("cookie", [None, "", "x", session.begin(OTHER), session.begin(TOKEN)[:-1], "a.b.c", "é"])
def test_what_is_no_session(cookie):
    assert session.find(TOKEN, cookie) is None


def test_a_session_ends_by_itself(monkeypatch):
    cookie = session.begin(TOKEN)
    monkeypatch.setattr(session, "LIFETIME", -1)
    assert session.find(TOKEN, cookie) is None


def test_a_guard_is_of_one_session_and_one_form():
    one, other = (session.find(TOKEN, session.begin(TOKEN)) for _ in range(2))
    assert one and other
    assert one.is_guard("takeover", one.guard("takeover"))
    assert not one.is_guard("fence", one.guard("takeover"))
    assert not other.is_guard("takeover", one.guard("takeover"))
    assert not one.is_guard("takeover", "")
    assert not one.is_guard("takeover", "ü")


class Clock:
    def __init__(self) -> None:
        self.now = times.parse("2026-11-25T03:00:00Z")

    def __call__(self) -> datetime:
        return self.now


def test_a_form_counts_once_and_for_five_minutes():
    clock = Clock()
    forms = Forms(clock)
    first, second = forms.number(), forms.number()
    assert forms.use(first) and not forms.use(first)
    clock.now += timedelta(minutes=5)
    assert not forms.use(second)
    assert not Forms(clock).use(forms.number()), "of another process"


@pytest.mark.parametrize("given", [TOKEN, f" {TOKEN}\n", f"https://[::1]:26000/#{TOKEN}", f"#{TOKEN}"])
def test_the_token_or_its_url(given):
    assert session.is_token(TOKEN, given)


@pytest.mark.parametrize("given", ["", OTHER, TOKEN[1:], TOKEN + "0", TOKEN.upper(), f"{TOKEN} x", "ü" * 32])
def test_another_token(given):
    assert not session.is_token(TOKEN, given)


def test_who_may_read():
    read = token.read_token(TOKEN)
    assert session.may_read(TOKEN, f"Bearer {TOKEN}") and session.may_read(TOKEN, f"bearer  {read}")
    for given in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {OTHER}", f"Bearer {read[:-1]}"):
        assert not session.may_read(TOKEN, given)


OWN = "https://127.0.0.1:26000"


@pytest.mark.parametrize(
    ("site", "origin", "ours"),
    [
        ("same-origin", "null", True),
        ("same-origin", "", True),
        ("same-origin", OWN, True),
        ("", OWN, True),
        ("same-origin", "https://evil", False),
        ("cross-site", OWN, False),
        ("same-site", "null", False),
        ("none", "", False),
        ("", "", False),
        ("", "null", False),
        ("", "https://evil", False),
        ("", "http://127.0.0.1:26000", False),
        ("", "https://127.0.0.1:26001", False),
    ],
)
def test_where_a_form_comes_from(site, origin, ours):
    headers = Headers({"Host": "127.0.0.1:26000"})
    for name, value in (("Sec-Fetch-Site", site), ("Origin", origin)):
        if value:
            headers[name] = value
    assert session.comes_from_us(headers) is ours


def test_the_cookies_of_two_instances_on_one_address_have_two_names():
    assert session.cookie_name(26000) == "__Host-control-26000"
