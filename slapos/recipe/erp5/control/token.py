# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page's token, and program PREFIX-control-token, which shows the page's URL and replaces the token."""

import argparse
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.passwords import make_token
from slapos.recipe.erp5.words import bracketed

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.service import Service

_FORM = re.compile(r"[0-9a-f]{32}")


def load(config: Configuration) -> str:
    """The token as it is now. Raises Error when there is none."""
    try:
        token = config.control_token.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Error(f"{config.control_token} cannot be read ({process.reason(error)}), {_remedy(config)}") from error
    if not _FORM.fullmatch(token):
        raise Error(f"{config.control_token} does not hold a token, {_remedy(config)}")
    return token


def _remedy(config: Configuration) -> str:
    return f"expected 32 hexadecimal digits: bin/{config.prefix}-control-token --replace makes a new one"


def replace(config: Configuration) -> str:
    """A new token, which counts from the next request on. Raises OSError."""
    token = make_token()
    process.write_atomically(config.control_token, token)
    return token


def read_token(token: str) -> str:
    """The token that allows to look, and nothing else; it says nothing of the one that it is made of."""
    return hmac.new(token.encode("ascii"), b"read", hashlib.sha256).hexdigest()[:32]


def takeover_url(host: str, port: int, token: str) -> str:
    """The page; what is behind the # is never sent, nor in any log or Referer."""
    return f"https://{bracketed(host)}:{port}/#{token}"


def monitor_url(host: str, port: int, token: str) -> str:
    """The metrics, and the token to read them."""
    return f"https://{bracketed(host)}:{port}/metrics#{read_token(token)}"


def url(config: Configuration, token: str) -> str:
    """takeover_url() of a partition."""
    return takeover_url(config.control_host, config.control_port, token)


def main(service: "Service", arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the URL is on standard output, 1 there is no token, or it cannot be written."""
    parser = argparse.ArgumentParser(
        prog=f"{service.prefix}-control-token", description="Show the control page's URL, which is a secret."
    )
    parser.add_argument("--config", required=True, help=f"the partition's {service.json}")
    parser.add_argument("--replace", action="store_true", help="make a new token; the old one ends, and all sessions")
    options = parser.parse_args(arguments)
    return process.program(lambda: _show(service.load(options.config), options.replace))


def _show(config: Configuration, anew: bool) -> None:
    print(url(config, replace(config) if anew else load(config)))
    if anew:
        process.log("the old token ends now; takeover-url is published anew when the partition is next processed")
