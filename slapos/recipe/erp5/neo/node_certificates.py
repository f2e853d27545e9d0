# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-node-certificates: gets and renews a node's certificate, and what its cluster trusts."""

import argparse
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.neo import config, tls


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all is as it should be, 1 something is not (each in one sentence), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="neo-node-certificates", description="Renew what is due, now.")
    parser.add_argument("--config", required=True, help="the node's etc/neo-node.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: tls.renew_node(config.load_node(path)))


if __name__ == "__main__":
    raise SystemExit(main())
