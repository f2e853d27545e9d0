# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs Zope 4 on a socket that listens already, and ends it when its NEO cluster is a backup that would show old pages.

zope_serve.py --ini FILE --home FOLDER --socket DESCRIPTOR --ready DESCRIPTOR [--neo] [--mysql FILE]
              [--products FOLDER]...

For the Python 2.7 that Zope is installed in; it needs nothing but that. A byte is written to --ready once it serves;
before that, the connections in --mysql (JSON, a list of ZMySQLDA strings) are put into the database. Whoever gave the
socket may answer on it before that, and after asking for the end by SIGTERM. It is zope/start.py that runs it.

Exit codes: 0 after SIGTERM, 75 when the cluster was found to be a backup, others for what went wrong.
"""

import argparse
import json
import logging
import os
import random
import re
import signal
import socket
import sys
import time

BACKUP = 75
"""EX_TEMPFAIL: nothing is wrong with this Zope."""
SO_DOMAIN = 39  # <asm-generic/socket.h>
PATIENCE = 10
"""Seconds that requests may go on after SIGTERM."""
CONFLICTS = 20
"""How often writing the connections is tried: each time that it fails somebody else has succeeded."""
NOTE = b"connections to MySQL, as the parameters name them".decode("ascii")
MYSQL_PATIENCE = 10
"""Seconds that a new connection to a MySQL server may take."""
LOG = logging.getLogger("zope_serve")


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


def understand_brackets():
    """Let ZMySQLDA read database@[IPv6 address]:port; its own takes the first colon for the one before the port.

    Such connections use TLS, which our servers ask for there, and which a string cannot ask for: an empty dictionary is
    enough, and nothing is verified, as nobody has told Zope of the server's authority.
    """
    from Products.ZMySQLDA.db import DB

    if not isinstance(vars(DB).get("_parse_connection_string"), classmethod):
        return  # another product of that name, such as an application's own
    original = DB._parse_connection_string.__func__

    def parse(cls, connection, *args, **kw):
        found = re.match(r"(\S*@)\[([^]\s]+)\]", connection)
        if not found:
            return original(cls, connection, *args, **kw)
        flags = original(cls, found.group(1) + "host" + connection[found.end() :], *args, **kw)
        flags["connection"] = connection
        flags["kw_args"].update(host=found.group(2), ssl={})
        return flags

    DB._parse_connection_string = classmethod(parse)


def connect_mysql(strings):
    """Let the root have mysql_0, mysql_1 and so on for these strings. No server is asked: each may be down.

    Others may be at it, too, as all Zopes start together. Raises what the database raises.
    """
    import transaction
    import Zope2
    from ZODB.POSException import ConflictError

    for left in reversed(range(CONFLICTS)):
        application = Zope2.app()
        try:
            changes = [put(application, "mysql_%d" % number, string) for number, string in enumerate(strings)]
            if any(changes):
                transaction.get().note(NOTE)
                transaction.commit()
            for change in filter(None, changes):
                LOG.info(change)
            return
        except ConflictError:
            if not left:
                raise
        finally:
            transaction.abort()
            application._p_jar.close()
        time.sleep(random.uniform(0, 0.5))


def put(application, name, string):
    """Make or change one connection; what was done, or None. Nothing but the string is changed of what is there."""
    from Acquisition import aq_base
    from Products.ZMySQLDA.DA import Connection

    found = getattr(aq_base(application), name, None)
    if found is None:
        made = Connection(name, "MySQL as the instance's parameters name it", string, None)
        # As our servers have it; they would be sent latin1 otherwise.
        made.charset, made.timeout = "utf8mb4", MYSQL_PATIENCE
        application._setObject(name, made)
        return "%s was made" % name
    if getattr(found, "meta_type", None) != Connection.meta_type:
        LOG.warning(
            "%s is not a %s but a %s, and left alone: rename it, and restart, to have the connection of the parameters",
            name,
            Connection.meta_type,
            getattr(found, "meta_type", type(found).__name__),
        )
        return None
    if found.connection_string == string:
        return None
    found.connection_string = string
    return "%s: the parameters name another server or account than was kept, and it is used from now on" % name


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
    parser.add_argument("--mysql")
    parser.add_argument("--products", action="append", default=[])
    options = parser.parse_args(arguments)
    listening = inherited(options.socket)
    if options.neo:
        import neo_tls  # beside this file

        neo_tls.install()
        refuse_backups()
    keep_users()
    application = load(options.ini, options.products)
    inituser = os.path.join(options.home, "inituser")
    if os.path.exists(inituser):  # nobody needed it
        os.unlink(inituser)
    understand_brackets()
    if options.mysql:
        with open(options.mysql) as strings:
            connect_mysql([string.encode("utf-8") for string in json.load(strings)])
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
