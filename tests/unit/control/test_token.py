# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page's token: kept, shown, replaced at once; the one for reading tells nothing of it."""

import re
import stat

import pytest

from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.errors import Error
from tests.unit.control.fake import service as fake
from tests.unit.control.fake.service import LAMP, TOKEN


@pytest.fixture
def config(tmp_path):
    return fake.partition(tmp_path / "p")


def test_the_urls():
    assert token.takeover_url("127.0.0.1", 26000, TOKEN) == f"https://127.0.0.1:26000/#{TOKEN}"
    assert token.monitor_url("::1", 1, TOKEN) == f"https://[::1]:1/metrics#{token.read_token(TOKEN)}"


def test_the_token_for_reading():
    read = token.read_token(TOKEN)
    assert re.fullmatch("[0-9a-f]{32}", read) and read != TOKEN
    assert token.read_token("f" * 32) != read


@pytest.mark.parametrize("content", ["", "x" * 32, TOKEN[:-1], TOKEN + "0", TOKEN.upper()])
def test_what_is_no_token(config, content):
    config.control_token.write_text(content)
    with pytest.raises(Error) as caught:
        token.load(config)
    remedy = "expected 32 hexadecimal digits: bin/lamp-control-token --replace makes a new one"
    assert str(caught.value) == f"{config.control_token} does not hold a token, {remedy}"


def test_no_token(config):
    config.control_token.unlink()
    with pytest.raises(Error, match="cannot be read .No such file or directory., expected 32 hexadecimal digits: bin"):
        token.load(config)


def run(config, capsys, *options: str) -> tuple[int, str, str]:
    code = token.main(LAMP, ["--config", str(fake.json_of(config)), *options])
    return code, *capsys.readouterr()


def test_it_is_shown(config, capsys):
    assert run(config, capsys) == (0, f"https://127.0.0.2:26003/#{TOKEN}\n", "")


def test_it_is_replaced(config, capsys):
    code, out, err = run(config, capsys, "--replace")
    new = token.load(config)
    assert (code, out) == (0, f"https://127.0.0.2:26003/#{new}\n") and new != TOKEN
    assert "the old token ends now; takeover-url is published anew when the partition is next processed" in err
    assert new not in err
    assert stat.S_IMODE(config.control_token.stat().st_mode) == 0o600
