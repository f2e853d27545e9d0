# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page in a real browser: with and without JavaScript, with a keyboard alone, on a phone, for everybody."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import journal, token
from tests.browser import Browser, browser
from tests.service import servers
from tests.service.control_fixtures import TOKEN, Front, fronted
from tests.service.replication_fixtures import running_pair, temporary_partition

NAME = "test instance"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A primary's page."""
    with temporary_partition() as config, servers.running(config), fronted(config) as front:
        front.wait_for_a_look()
        yield front


@pytest.fixture
def url(front) -> str:
    """The page's, without the token."""
    return f"https://127.0.0.1:{front.config.network.control_port}/"


def logged_in(page: Browser, front: Front) -> None:
    page.open(token.url(front.config, TOKEN))
    page.wait_for("GTID written here")


def test_the_link_opens_the_page_and_the_address_forgets_the_token(front, url, tmp_path):
    with browser(tmp_path) as page:
        logged_in(page, front)
        assert page.driver.current_url == url
        assert page.title in (f"Well: {NAME}", f"Needs attention: {NAME}")
        page.driver.back()
        assert TOKEN not in page.driver.current_url
        assert page.script("return document.cookie") == ""
        severe = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []
    assert [name for name, text in front.logs().items() if TOKEN in text] == []


def test_a_wrong_token_is_told(url, tmp_path):
    with browser(tmp_path) as page:
        page.open(f"{url}#{'0' * 32}")
        page.wait_for("That is not the token of this instance: give what takeover-url has behind its #.")


def test_an_action_with_javascript_and_the_page_follows_by_itself(front, tmp_path):
    with browser(tmp_path) as page:
        logged_in(page, front)
        page.wait_for("takes writes")
        page.script("window.same = true")
        page.click("Fence")
        page.fill("Name of the instance", NAME)
        page.click("Fence")
        page.wait_for("Last action: Fence, done")
        page.script("window.same = true")
        page.wait_for("read-only")
        page.click("Resume")
        page.fill("Name of the instance", NAME)
        page.click("Resume")
        page.wait_for("Last action: Resume, done")
        page.script("window.same = true")
        page.wait_for("takes writes")
        assert page.script("return window.same") is True, "it was not loaded anew"


def test_an_action_without_javascript(front, url, tmp_path):
    with browser(tmp_path, javascript=False) as page:
        page.open(token.url(front.config, TOKEN))
        page.fill("Token", token.url(front.config, TOKEN))
        page.click("Open")
        page.wait_for("takes writes")
        assert page.driver.current_url == url
        page.click("Fence")
        page.fill("Name of the instance", "another")
        page.click("Fence")
        page.wait_for("The name of the instance is another one: type test instance to confirm.")
        page.fill("Name of the instance", NAME)
        page.click("Fence")
        page.wait_for("Last action: Fence, done")
        page.wait_for("read-only")
        page.click("Resume")
        page.fill("Name of the instance", NAME)
        page.click("Resume")
        page.wait_for("takes writes")


def test_with_the_keyboard_alone(front, url, tmp_path):
    before = len(journal.last(front.config, 100))
    with browser(tmp_path) as page:
        page.open(url)
        assert page.focused.get_attribute("id") == "token"
        page.press(TOKEN, Keys.ENTER)
        page.wait_for("GTID written here")
        page.press(Keys.TAB)
        assert page.focused.text == "Skip to the content"
        page.tab_to("Fence")
        assert page.focused.value_of_css_property("outline-style") == "solid"
        page.press(Keys.ENTER)
        page.wait_for("What would be lost")
        page.tab_to("Name of the instance")
        page.press(NAME)
        page.tab_to("Fence")
        page.press(Keys.ENTER)
        page.wait_for("Last action: Fence, done")
        page.tab_to("Resume")
        page.press(Keys.ENTER)
        page.wait_for("What would be lost")
        page.tab_to("Name of the instance")
        page.press(NAME)
        page.tab_to("Resume")
        page.press(Keys.ENTER)
        page.wait_for("Last action: Resume, done")
    assert len(journal.last(front.config, 100)) == before + 2


def test_on_a_phone(front, url, tmp_path):
    with browser(tmp_path, width=360, height=740) as page:
        page.open(url)
        fits(page)
        page.fill("Token", TOKEN)
        page.click("Open")
        page.wait_for("GTID written here")
        page.click("Others")
        fits(page)
        page.script("window.link = document.querySelector('#others .button')")
        page.wait_for("Seen")
        shown = page.text.rpartition("Seen")[2].split(".")[0]
        page.wait_until(lambda: f"Seen{shown}" not in page.text, "the page to follow by itself")
        assert page.script("return window.link.isConnected && document.getElementById('others').open") is True
        page.click("Take over")
        page.wait_for("What was found")
        fits(page)


def fits(page: Browser) -> None:
    """Nothing has to be scrolled sideways, and whatever is to be touched is large enough for a finger."""
    assert page.script("return document.documentElement.scrollWidth") <= 360
    small = """
        return [...document.querySelectorAll("button, .button, input:not([type=hidden], [type=checkbox])")]
            .filter(one => one.offsetParent && one.getBoundingClientRect().height < 43).map(one => one.outerHTML)
    """
    assert page.script(small) == []


ACCESSIBLE = """
    const found = [], all = (selector) => [...document.querySelectorAll(selector)];
    if (!document.documentElement.lang) found.push("no language");
    if (!document.title.trim()) found.push("no title");
    if (all("h1").length !== 1) found.push(all("h1").length + " h1");
    if (all("main").length !== 1) found.push(all("main").length + " main");
    let last = 0;
    for (const one of all("h1, h2, h3, h4")) {
      const level = Number(one.tagName[1]);
      if (level > last + 1) found.push("a heading is skipped before " + one.textContent);
      last = level;
    }
    const ids = all("[id]").map(one => one.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push("the id " + id + " twice");
    for (const name of ["aria-labelledby", "aria-describedby", "for"])
      for (const one of all("[" + name + "]"))
        for (const id of one.getAttribute(name).split(" ")) if (!ids.includes(id)) found.push("nothing is " + id);
    for (const one of all("input:not([type=hidden])")) if (!one.labels.length) found.push("no label: " + one.outerHTML);
    for (const one of all("a, button")) if (!one.textContent.trim()) found.push("no words: " + one.outerHTML);
    for (const one of all("svg")) if (one.getAttribute("role") !== "img") found.push("a picture without words");
    const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
    const light = (color) => {
      const linear = (x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
      const [r, g, b] = numbers(color).map(x => linear(x / 255));
      return .2126 * r + .7152 * g + .0722 * b;
    };
    const ground = (one) => {
      for (; one; one = one.parentElement) {
        const color = getComputedStyle(one).backgroundColor;
        if (numbers(color)[3] !== 0) return color;
      }
      return "rgb(255, 255, 255)";
    };
    for (const one of all("main *")) {
      if (!one.offsetParent || ![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
      const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      const contrast = (a + .05) / (b + .05);
      if (contrast < 4.5) found.push("contrast " + contrast.toFixed(1) + ": " + one.outerHTML.slice(0, 80));
    }
    return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_for_everybody(front, url, tmp_path, scheme):
    with browser(tmp_path) as page:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        page.open(url)
        assert page.script(ACCESSIBLE) == []
        logged_in(page, front)
        page.click("Others")
        assert page.script(ACCESSIBLE) == []
        for action in ("fence", "takeover", "rejoin"):
            page.open(f"{url}action/{action}")
            page.wait_for("Back, and do nothing")
            assert page.script(ACCESSIBLE) == []
        ground = page.script("return getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(251, 251, 249)", "dark": "rgb(21, 24, 27)"}[scheme]


def test_a_screenshot_for_the_readme(tmp_path):
    """A replica with an hour behind it, in the file that bin/test names."""
    picture = Path(os.environ.get("ERP5_SCREENSHOT", tmp_path / "control-page.png"))
    with running_pair() as pair:
        config = pair.replica.config
        now = times.now()
        samples = [
            {"at": times.text(now - timedelta(seconds=second)), "lag": lag(second), "primary-pos": "0-1-1"}
            for second in range(3590, 0, -5)
        ]
        config.path("var", "run", "samples.json").write_text(json.dumps({"samples": samples}))
        servers.write_json(dataclasses.replace(config, instance="shop"))
        with fronted(config) as front:
            front.wait_for_a_look()
            with browser(tmp_path / "profile", width=780, height=1080) as page:
                logged_in(page, front)
                page.wait_for("All is well")
                assert page.driver.save_screenshot(str(picture))
    assert 10_000 < picture.stat().st_size < 150_000


def lag(second: int) -> int:
    """Of a replica that mostly keeps up, and once had a long transaction to apply."""
    hump = 46 * math.exp(-(((second - 1500) / 160) ** 2))
    return round(hump + (1 if second % 240 < 20 else 0))
