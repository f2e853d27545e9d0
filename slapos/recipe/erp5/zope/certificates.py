# SPDX-License-Identifier: GPL-2.0-or-later
"""Program zope-certificates: gets and renews the certificate of a partition's Zopes, and what their NEO trusts."""

import argparse
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.zope import config, tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all is as it should be, 1 something is not (each in one sentence), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="zope-certificates", description="Renew what is due, now.")
    parser.add_argument("--config", required=True, help="the partition's etc/zope.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: tls.renew_certificate(config.load(path)))


if __name__ == "__main__":
    raise SystemExit(main())
