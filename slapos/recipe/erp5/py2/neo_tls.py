# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program of NEO so that it uses the certificates that lie on disk now, not those of its start.

neo_tls.py MODULE -- ARGUMENTS OF THE PROGRAM, whose main() takes them: neo.scripts.neostorage, or one beside this file

For the interpreter that NEO is installed in; it needs nothing but that. NEO reads --ca, --cert and --key once, at its
start, so a process would show an expired certificate one day, and know nothing of what was revoked. Here each new
connection uses what the files say then. Connections that there are stay as they are: nothing is interrupted. A client
that is no program of NEO calls install().
"""

import importlib
import os
import sys


def state(paths):
    """What differs once one of the files was replaced or written."""
    found = []
    for path in paths:
        seen = os.stat(path)
        found.append((seen.st_ino, seen.st_mtime, seen.st_size))
    return found


class Fresh:
    """Takes the place of an SSL context. `make(paths)` reads the files; what it cannot read leaves what was."""

    def __init__(self, paths, make, log):
        self._paths, self._make, self._log = paths, make, log
        self._state = state(paths)
        self._context = make(paths)
        self._failed = None

    def wrap_socket(self, *args, **kw):
        """As a context has it."""
        self._look()
        return self._context.wrap_socket(*args, **kw)

    def _look(self):
        try:
            seen = state(self._paths)
            if seen in (self._state, self._failed):
                return
            self._failed = seen  # until it has worked: not again for each connection
            self._context = self._make(self._paths)
            self._state = seen
            self._log("the certificates were read anew")
        except Exception as error:
            self._log("the certificates cannot be read anew, those from before are used: %s" % error)


def install():
    """From now on each application of NEO that uses TLS has a Fresh context."""
    from neo.lib import logging
    from neo.lib.app import BaseApplication

    original = BaseApplication.__init__

    def make(paths):
        # NEO's own way to read them, on an application that is thrown away.
        made = object.__new__(BaseApplication)
        original(made, ssl=paths)
        context = made.ssl
        made.close()
        return context

    def __init__(self, ssl=None, *args, **kw):
        original(self, None, *args, **kw)
        if ssl:
            if not all(ssl):
                original(self, ssl, *args, **kw)  # says what is missing
            self.ssl = Fresh(ssl, make, logging.warning)

    BaseApplication.__init__ = __init__


def main(arguments):
    """Exit codes: the program's, or 2 for wrong arguments."""
    if len(arguments) < 2 or arguments[1] != "--":
        sys.stderr.write("usage: neo_tls.py MODULE -- ARGUMENTS OF THE PROGRAM\n")
        return 2
    program = importlib.import_module(arguments[0])
    install()
    return program.main(arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
