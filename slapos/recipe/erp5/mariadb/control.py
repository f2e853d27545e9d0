# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-control: the one Python process of a partition, which schedules its jobs and answers on a socket."""

import sys

from slapos.recipe.erp5.control import main as control
from slapos.recipe.erp5.mariadb.service import SERVICE


def main() -> int:
    """Runs until SIGTERM."""
    return control.main(SERVICE)


if __name__ == "__main__":
    sys.exit(main())
