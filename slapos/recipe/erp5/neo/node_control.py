# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-node-control: the one Python process of a node's partition, which rotates logs and does as asked."""

import sys

from slapos.recipe.erp5.control import main as control
from slapos.recipe.erp5.neo.node_service import SERVICE


def main() -> int:
    """Runs until SIGTERM."""
    return control.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
