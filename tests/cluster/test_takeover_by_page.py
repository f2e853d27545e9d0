# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary dies under write load while the Master is down: clicks in a real browser let the replica take over."""

import json

from tests.browser import browser
from tests.cluster.roles import (
    Application,
    follow_the_promise,
    kill,
    master_stopped,
    pair,
    rejoin,
    role,
    said,
    wait_until_fenced,
)


def test_a_click_makes_it_the_primary(node, tmp_path):
    with pair(node, "page") as (old, new), Application(old, new) as application, browser(tmp_path / "b") as page:
        name = json.loads((new.path / "etc/mariadb.json").read_text())["instance"]
        application.wait_for_rows(old)
        page.open(new.published["takeover-url"])
        page.wait_for("GTID written here")
        with master_stopped(node):
            kill(old)
            page.click("Take over")
            page.wait_for("What would be lost")
            page.fill("Name of the instance", name)
            page.click("Take over")
            page.wait_for("Last action: Take over, done")
            application.wait_for_rows(new)
            page.wait_for("takes writes")
            assert "this database was taken over at " in said(new)
        node.process("--all")
        assert role(new) == "primary"
        wait_until_fenced(old, new)
        rejoin(old, new, tmp_path)
        follow_the_promise(node, new, [old])
