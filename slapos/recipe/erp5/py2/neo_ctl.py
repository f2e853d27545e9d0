# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO's neoctl with the same arguments, and with a `tweak` that needs none: NEO 1.12's fails when no node is named.

For the Python 2.7 that NEO is installed in; it needs nothing but that.
"""

import sys


class NoNodes(list):
    """The arguments of a `tweak` that has none: its first one, which is looked at in any case, is no `-n`."""

    def __getitem__(self, index):
        return "" if index == 0 else list.__getitem__(self, index)


def mend(terminal):
    """Let `tweakPartitionTable` of the class TerminalNeoCTL do without arguments."""
    original = terminal.tweakPartitionTable
    terminal.tweakPartitionTable = lambda self, params: original(self, params or NoNodes())


def main():
    """neoctl's own exit codes."""
    from neo.neoctl.app import TerminalNeoCTL
    from neo.scripts import neoctl

    mend(TerminalNeoCTL)
    return neoctl.main()


if __name__ == "__main__":
    sys.exit(main())
