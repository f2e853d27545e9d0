# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a control process is reached, and the certificates without which nginx in front of it would not start."""

import stat

import pytest

from slapos.recipe.erp5.buildout import control_urls, placeholders
from slapos.recipe.erp5.control import token

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(("ip", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_urls(ip, host):
    options = {"ip": ip, "port": "28000", "token": TOKEN}
    control_urls.Recipe(None, "control-urls", options)
    assert options["takeover"] == f"https://{host}:28000/#{TOKEN}"
    assert options["monitor"] == f"https://{host}:28000/metrics#{token.read_token(TOKEN)}"


def test_placeholders_are_made_once(tmp_path):
    recipe = placeholders.Recipe(
        None, "certificates", {"folder": str(tmp_path / "tls"), "name": "neo", "ip": "127.0.0.1\n"}
    )
    assert not (tmp_path / "tls").exists()
    assert recipe.install() == ()
    made = {path.name: path.read_text() for path in (tmp_path / "tls").iterdir()}
    assert {"server.pem", "ca.pem"} <= set(made)
    assert stat.S_IMODE((tmp_path / "tls/server.pem").stat().st_mode) == 0o600
    assert recipe.update() == ()
    assert made == {path.name: path.read_text() for path in (tmp_path / "tls").iterdir()}
