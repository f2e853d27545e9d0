# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page's token, and program mariadb-control-token, which shows the page's URL and replaces the token."""

import argparse
import hashlib
import hmac
import re
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.passwords import make_token
from slapos.recipe.erp5.words import bracketed

_FORM = re.compile(r"[0-9a-f]{32}")


def load(config: Config) -> str:
    """The token as it is now. Raises Error when there is none."""
    try:
        token = config.control_token.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Error(f"{config.control_token} cannot be read ({process.reason(error)}), {_REMEDY}") from error
    if not _FORM.fullmatch(token):
        raise Error(f"{config.control_token} does not hold a token, {_REMEDY}")
    return token


_REMEDY = "expected 32 hexadecimal digits: bin/mariadb-control-token --replace makes a new one"


def replace(config: Config) -> str:
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


def url(config: Config, token: str) -> str:
    """takeover_url() of a partition."""
    return takeover_url(config.network.ipv6 or config.network.ipv4, config.network.control_port, token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the URL is on standard output, 1 there is no token, or it cannot be written."""
    parser = argparse.ArgumentParser(
        prog="mariadb-control-token", description="Show the control page's URL, which is a secret."
    )
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument("--replace", action="store_true", help="make a new token; the old one ends, and all sessions")
    options = parser.parse_args(arguments)
    return process.program(lambda: _show(configuration.load(options.config), options.replace))


def _show(config: Config, anew: bool) -> None:
    print(url(config, replace(config) if anew else load(config)))
    if anew:
        process.log("the old token ends now; takeover-url is published anew when the partition is next processed")


if __name__ == "__main__":
    raise SystemExit(main())
