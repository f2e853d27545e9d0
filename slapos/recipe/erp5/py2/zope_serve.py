# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs Zope 4 on a socket that listens already, and ends it when its NEO cluster is a backup that would show old pages.

zope_serve.py --ini FILE --home FOLDER --socket DESCRIPTOR --ready DESCRIPTOR [--neo] [--products FOLDER]...

For the Python 2.7 that Zope is installed in; it needs nothing but that. A byte is written to --ready once it serves.
Whoever gave the socket may answer on it before that, and after asking for the end by SIGTERM. It is zope/start.py that
runs it.

Exit codes: 0 after SIGTERM, 75 when the cluster was found to be a backup, others for what went wrong.
"""

import argparse
import os
import signal
import socket
import sys
import time

BACKUP = 75
"""EX_TEMPFAIL: nothing is wrong with this Zope."""
SO_DOMAIN = 39  # <asm-generic/socket.h>
PATIENCE = 10
"""Seconds that requests may go on after SIGTERM."""


def refuse_backups():
    """A client of a backup reads what was there when it connected, for ever, with status 200; so it must not connect.

    NEO tells no client whether it is a backup, but a backup gives out no new object ids. That is asked each time that a
    connection to the primary master has been made: a cluster cannot become a backup without losing those.
    """
    from neo.client.app import Application
    from neo.lib.connection import ConnectionClosed
    from neo.lib.protocol import Packets
    from ZODB.POSException import ReadOnlyError

    connect = Application._connectToPrimaryNode

    def connect_unless_backup(self):
        while True:
            connection = connect(self)
            try:
                # Those that it gives out are used as any others.
                self._ask(connection, Packets.AskNewOIDs(1), handler=self.primary_handler)
                return connection
            except ReadOnlyError:
                end("the NEO cluster is a backup, whose pages would be old: Zope ends")
            except ConnectionClosed:
                self.primary_master_node = None

    Application._connectToPrimaryNode = connect_unless_backup


def end(message):
    """From any thread, at once: requests that wait for the database would hold an orderly end up."""
    sys.stderr.write("zope_serve.py: %s\n" % message)
    sys.stderr.flush()
    os._exit(BACKUP)


def keep_users():
    """Zope itself replaces the one user of a database that has one, at each start with an inituser."""
    from OFS.userfolder import UserFolder

    create = UserFolder._createInitialUser

    def create_in_an_empty_folder(self):
        if not len(self.data):
            create(self)

    UserFolder._createInitialUser = create_in_an_empty_folder


def load(ini, products):
    """The application; this opens the database."""
    import Products
    from paste.deploy import loadapp
    from Zope2.Startup.serve import setup_logging

    Products.__path__[:0] = products
    setup_logging(ini)
    return loadapp("config:" + ini)


def server_options(ini):
    """Those of waitress in the section of the server, but for where to listen."""
    from paste.deploy.loadwsgi import SERVER, loadcontext

    options = dict(loadcontext(SERVER, "config:" + ini).local_conf)
    for name in ("listen", "host", "port"):
        options.pop(name, None)
    return options


def serve(application, listening, ready, options):
    """Until SIGTERM, and then until all requests are answered, or PATIENCE is over."""
    from waitress.server import create_server

    stop = []
    server = create_server(application, sockets=[listening], **options)
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(time.time()))
    os.write(ready, b"1")
    os.close(ready)
    turn = server.asyncore.loop
    while not stop:
        turn(timeout=1, map=server._map, count=1)
    server.accepting = False
    while is_busy(server) and time.time() < stop[0] + PATIENCE:
        turn(timeout=0.05, map=server._map, count=1)
    server.task_dispatcher.shutdown(timeout=0)


def is_busy(server):
    return any(channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values()))


def main(arguments):
    parser = argparse.ArgumentParser()
    for name in ("ini", "home"):
        parser.add_argument("--" + name, required=True)
    for name in ("socket", "ready"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--neo", action="store_true")
    parser.add_argument("--products", action="append", default=[])
    options = parser.parse_args(arguments)
    listening = inherited(options.socket)
    if options.neo:
        refuse_backups()
    keep_users()
    application = load(options.ini, options.products)
    inituser = os.path.join(options.home, "inituser")
    if os.path.exists(inituser):  # nobody needed it
        os.unlink(inituser)
    serve(application, listening, options.ready, server_options(options.ini))
    for database in __import__("Zope2").opened:
        database.close()


def inherited(descriptor):
    """The socket that is known by its number; Python 2 does not ask the kernel of which family it is."""
    unknown = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)
    family = unknown.getsockopt(socket.SOL_SOCKET, SO_DOMAIN)
    unknown.close()
    found = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
    os.close(descriptor)
    # waitress silently ignores any other type.
    return socket.socket(_sock=found)  # type: ignore[call-arg]


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # threads of NEO or of requests may hold its end up
