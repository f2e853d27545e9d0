# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page of a real instance: opened by what was published, before and after its token was replaced."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from slapos.recipe.erp5.tls.context import unverified
from tests.browser import Browser, browser
from tests.cluster.node import Instance, eventually


def ask(url: str) -> str:
    """What a monitor gets: by a URL that has its token behind its #."""
    address, _, secret = url.partition("#")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(request, context=unverified()) as answer:
        return answer.read().decode()


def status(instance: Instance) -> dict:
    return json.loads(ask(instance.published["monitor-url"].replace("/metrics#", "/status.json#")))


def url(finished: subprocess.CompletedProcess) -> str:
    """The one that a program has shown."""
    (found,) = [line for line in finished.stdout.splitlines() if line.startswith("https://")]
    return found


@pytest.fixture
def page(tmp_path) -> Iterator[Browser]:
    with browser(tmp_path) as page:
        yield page


def test_the_published_url_opens_it(first, page):
    first.wait_until_green()
    page.open(first.published["takeover-url"])
    page.wait_for("All is well")
    assert "Role asked for\nprimary" in page.text
    for promise in ("accounts", "backup", "certificates", "disk", "replication", "server"):
        assert f"Holds mariadb-{promise}" in page.text
    assert "Service\nrunning since" in page.text


def test_monitors_read_by_a_url_of_their_own(second):
    assert "mariadb_up 1.0" in ask(second.published["monitor-url"])
    found = eventually(lambda: (seen := status(second))["server"]["writable"] and seen, "a look at the server")
    assert found["requested"] == found["server"]["role"] == "primary"


def test_a_new_token_counts_at_once_and_is_published_by_the_next_processing(node, second, page):
    old = second.published["takeover-url"]
    assert url(second.program("mariadb-control-token")) == old
    new = url(second.program("mariadb-control-token", "--replace"))
    assert new != old and new.partition("#")[0] == old.partition("#")[0]
    page.open(old)
    page.wait_for("That is not the token of this instance: give what takeover-url has behind its #.")
    page.open(new)
    page.wait_for("Role asked for")
    node.process("--all")
    assert second.published["takeover-url"] == new
    assert "mariadb_up 1.0" in ask(second.published["monitor-url"])
