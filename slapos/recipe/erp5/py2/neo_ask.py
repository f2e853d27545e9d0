# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a NEO 1.12 cluster how it stands, and tells it to change: questions and answers are lines of JSON.

neo_ask.py --cluster NAME [--ca FILE --cert FILE --key FILE] --admins ADDRESS...
    stays, and answers each question on stdin: {"ask": "status", "seconds": 5}, until its end.
neo_ask.py --cluster NAME [--ca ...] --masters ADDRESS... --after TID --limit N
    prints the tids of the cluster's transactions, from TID on, as one list, and ends.

For the Python 2.7 that NEO is installed in; it needs nothing but that. It is neo/ask.py that runs it.
"""

import argparse
import json
import os
import signal
import sys

STATES_WITH_IDS = ("RUNNING", "BACKINGUP", "STARTING_BACKUP")
"""In others, being asked for the ids kills the primary master, unless that is neo_master.py."""


class Late(Exception):
    """The seconds that a question had are over."""


class Denied(Exception):
    """NEO does not do what it was asked for; its reason."""


def unreachable():
    """The exceptions that mean that nobody could be asked."""
    from neo.lib.connection import ConnectionClosed
    from neo.neoctl.neoctl import NotReadyException

    return NotReadyException, ConnectionClosed


class Admin(object):
    """One admin node, with a connection that is kept."""

    def __init__(self, address, ssl):
        self.address, self.ssl = address, ssl
        self._control = None

    def control(self):
        """NEO's own NeoCTL, connected; the connection may have been lost meanwhile. Raises `unreachable()`."""
        from neo.lib.util import parseNodeAddress
        from neo.neoctl.neoctl import NeoCTL

        if self._control is None:
            # Its address is looked up anew, each time.
            self._control = NeoCTL(parseNodeAddress(self.address), ssl=self.ssl)
            self._control.handler.denied = denied
            self._control.handler.protocolError = denied
        return self._control

    def forget(self):
        """After a failure: answers to earlier questions may still come on that connection."""
        if self._control is not None:
            control, self._control = self._control, None
            control.close()

    def state(self):
        """The cluster's state; "" when this admin has just found the primary master. Raises `unreachable()`."""
        try:
            return self._ask_state()
        except unreachable():
            return self._ask_state()  # it was restarted, perhaps

    def _ask_state(self):
        try:
            state = self.control().getClusterState()
        except unreachable():
            self.forget()
            raise
        return "" if state is None else str(state)  # one of them equals 0


def denied(conn, message):
    """In place of NEO's own, which ends the process."""
    raise Denied(message)


class Asker(object):
    """Answers questions by way of the first admin that has a primary master."""

    def __init__(self, admins, ssl):
        self.admins = [Admin(address, ssl) for address in admins]

    def answer(self, question):
        """The answer to one question, a dictionary. Raises anything."""
        method = getattr(self, "ask_" + question["ask"].replace("-", "_"))
        signal.signal(signal.SIGALRM, be_late)
        signal.setitimer(signal.ITIMER_REAL, question["seconds"])
        try:
            return method(question)
        except Exception:
            for admin in self.admins:
                admin.forget()
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def connected(self):
        """(admin, state) of the first that knows the state, and the sentences of those before. Raises Unknown."""
        reasons = []
        for admin in self.admins:
            try:
                state = admin.state()
            except unreachable() as error:
                reasons.append("admin %s: %s" % (admin.address, str(error) or "connection closed"))
                continue
            if state:
                return admin, state
            reasons.append("admin %s: the primary master has not told it the state yet" % admin.address)
        raise Unknown("; ".join(reasons))

    def ask_status(self, question):
        try:
            admin, state = self.connected()
        except Unknown as error:
            return {"reason": str(error), "nodes": self.admin_nodes(None)}
        status = dict(look(admin.control(), state), cluster_state=state, reason="")
        status["nodes"] += self.admin_nodes(admin)
        return status

    def admin_nodes(self, found):
        """An admin knows of itself alone: each is asked."""
        nodes = []
        for admin in self.admins:
            try:
                up = admin is found or admin.state() is not None
            except unreachable() as error:
                up = "primary" in str(error)  # it answers that it has none
            nodes.append(node("ADMIN", "", admin.address, "RUNNING" if up else "DOWN"))
        return nodes

    def ask_set_state(self, question):
        from neo.lib.protocol import ClusterStates

        admin, _ = self.connected()
        admin.control().setClusterState(getattr(ClusterStates, question["state"]))
        return {}

    def ask_truncate(self, question):
        from neo.lib.util import p64

        admin, _ = self.connected()
        admin.control().truncate(p64(question["tid"]))
        return {}


class Unknown(Exception):
    """No admin knows a primary master; why, for each."""


def be_late(number, frame):
    raise Late()


def look(control, state):
    """The parts of the status that one admin tells."""
    from neo.lib.protocol import CellStates, uuid_str

    ptid, replicas, rows = control.getPartitionRowList()
    unreadable = (CellStates.OUT_OF_DATE, CellStates.CORRUPTED)
    status = {
        "primary": uuid_str(control.getPrimary()),
        "partitions": len(rows),
        "replicas": replicas,
        "last_ptid": ptid,
        "cells_out_of_date": sum(cell_state in unreadable for row in rows for _, cell_state in row),
        "nodes": [
            node(str(kind), uuid_str(uuid), address and address_text(address), str(node_state))
            for kind, address, uuid, node_state, _ in sorted(control.getNodeList())
            if str(kind) in ("MASTER", "STORAGE")
        ],
    }
    if state in STATES_WITH_IDS:
        status.update(look_at_ids(control, state))
    return status


def look_at_ids(control, state):
    from neo.lib.util import u64

    _, backup_tid, goal = control.getRecovery()
    status = {"last_tid": u64(control.getLastTransaction())}
    if backup_tid:
        status["backup_tid"] = u64(backup_tid)
        # See askRecovery in neo_master.py.
        status["first_copy_goal"] = None if goal is None else u64(goal)
    return status


def node(kind, uuid, address, state):
    return {"type": kind, "uuid": uuid, "address": address or "", "state": state}


def address_text(address):
    host, port = address
    return ("[%s]:%s" if ":" in host else "%s:%s") % (host, port)


def describe(error):
    """(kind, reason) of what a question ended with."""
    if isinstance(error, Denied):
        return "denied", str(error)
    if isinstance(error, Late):
        return "unreachable", "the cluster did not answer in time"
    if isinstance(error, (Unknown,) + unreachable()):
        return "unreachable", str(error) or "the connection was closed"
    return "failed", "%s: %s" % (type(error).__name__, error)


def serve(asker):
    """Answer until the end of stdin."""
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        question = json.loads(line)
        reply = {}
        try:
            reply["answer"] = asker.answer(question)
        except Exception as error:
            reply["kind"], reply["error"] = describe(error)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def tids(options, ssl):
    """The sorted tids, at most `limit`; it waits as long as the cluster serves nobody."""
    from neo.client.app import Application
    from neo.lib.protocol import MAX_TID, Packets
    from neo.lib.util import p64, u64

    client = Application(" ".join(options.masters), options.cluster, ssl=ssl)
    found = []
    for partition in range(client.pt.getPartitions()):
        packet = Packets.AskTIDsFrom(p64(options.after), MAX_TID, options.limit, partition)
        found += [u64(tid) for tid in client._askStorageForRead(partition, packet)]
    return sorted(found)[: options.limit]


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cluster", required=True)
    for name in ("ca", "cert", "key"):
        parser.add_argument("--" + name)
    parser.add_argument("--admins", nargs="+", default=[])
    parser.add_argument("--masters", nargs="+", default=[])
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--limit", type=int, default=1)
    options = parser.parse_args(arguments)
    ssl = (options.ca, options.cert, options.key) if options.ca else None
    if not options.masters:
        serve(Asker(options.admins, ssl))
        return
    sys.stdout.write(json.dumps(tids(options, ssl)) + "\n")
    sys.stdout.flush()
    os._exit(0)  # NEO's thread may hold its end up


if __name__ == "__main__":
    main(sys.argv[1:])
