# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs NEO 1.12's neomaster so that a new cluster becomes a backup by itself, and refuses what would break a cluster.

neo_master.py --new-flag FILE -- ARGUMENTS OF NEOMASTER

For the Python 2.7 that NEO is installed in; it needs nothing but that. FILE exists from a backup cluster's creation
until its first copy of the upstream is complete, and is made for this master alone: "{}" at first, {"goal": "0x..."}
once it is known which transaction of the upstream is the last one to copy. Without FILE, nothing becomes a backup.

While a file `closed` lies beside FILE, a RUNNING cluster has no clients but its backups: it is to be a backup itself,
or its place is being taken. The file holds the moment until which it counts, in seconds since 1970, or nothing.

A file `upstream-partitions` there holds how many partitions the upstream has while the cluster has another number.
NEO ends at that, at each start, with a traceback; here it is a sentence.

NEO releases whose neomaster has an option --backup do the first part themselves.
"""

import json
import os
import sys
import time

ZERO = 0
BACKUP_STATES = ("STARTING_BACKUP", "BACKINGUP")
BACKUP = "backup"
"""What a backup's master tells of itself to its upstream's, which takes it for any client else."""
CLOSED_LOOK = 0.1
"""Seconds between two looks for the file `closed`."""


class NewFlag(object):
    """The file that says that the first copy of the upstream is not complete yet; tids are integers."""

    def __init__(self, path):
        self.path = path
        self._known = False
        self._goal = None

    def exists(self):
        return os.path.exists(self.path)

    def goal(self):
        """The last tid of the first copy; None when that is not known yet, or nothing is to be copied."""
        if not self._known:
            try:
                with open(self.path) as opened:
                    self._goal = int(json.load(opened)["goal"], 0)
            except (IOError, OSError, ValueError, KeyError, TypeError):
                self._goal = None
            self._known = True
        return self._goal

    def write(self, goal):
        """Note the goal (None: not known), making the file if need be; it survives a power cut.

        On a full disk this process alone remembers it; the upstream tells the next one.
        """
        self._goal, self._known = goal, True
        try:
            self._replace(goal)
        except EnvironmentError:
            pass

    def _replace(self, goal):
        beside = self.path + ".new"
        with open(beside, "w") as opened:
            json.dump({} if goal is None else {"goal": "0x%x" % goal}, opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.rename(beside, self.path)
        self._sync_folder()

    def lower(self, tid):
        """The upstream ends at `tid`: what a first copy has to reach. Returns whether that was news."""
        goal = self.goal()
        if not self.exists() or tid == ZERO or (goal is not None and goal <= tid):
            return False
        self.write(tid)
        return True

    def remove(self):
        """The first copy is complete. Returns whether that was news."""
        try:
            os.unlink(self.path)
        except OSError:
            return False
        self._sync_folder()
        self._goal, self._known = None, True
        return True

    def _sync_folder(self):
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Closed(object):
    """The file that keeps clients out."""

    def __init__(self, path):
        self.path = path
        self._looked = 0.0

    def holds(self):
        try:
            with open(self.path) as opened:
                until = opened.read().strip()
            return not until or time.time() < float(until)
        except (IOError, OSError):
            return False
        except ValueError:
            return True

    def is_due(self):
        """Whether a look is worth its time."""
        now = time.time()
        if 0 <= now - self._looked < CLOSED_LOOK:
            return False
        self._looked = now
        return True


class UpstreamPartitions(object):
    """The file that says how many partitions the upstream has, where that is another number than ours."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "upstream-partitions")

    def note(self, theirs, ours):
        """Returns what is wrong (a sentence), or None."""
        if theirs == ours:
            try:
                os.unlink(self.path)
            except OSError:
                pass
            return None
        try:
            with open(self.path + ".new", "w") as opened:
                opened.write("%d\n" % theirs)
            os.rename(self.path + ".new", self.path)
        except EnvironmentError:
            pass
        return (
            "partitions: it is %d, but the upstream has %d, expected the same, which no parameter changes:"
            " request another instance" % (ours, theirs)
        )


def refusal(asked, state, has_upstream, flag, backup_tid):
    """Why the cluster may not be put into the state `asked` (a sentence), or None; `state` is what it is in.

    `flag` is the path of the file that says that the first copy is not complete, None when there is none.
    """
    if asked == "STARTING_BACKUP" and not has_upstream:
        return (
            "this cluster has no upstream, and its masters would die at this and every later start:"
            " start them with --upstream-cluster and --upstream-masters first"
        )
    if asked == "STOPPING_BACKUP" and state in BACKUP_STATES:
        if backup_tid == ZERO:
            return "nothing of the upstream was copied yet, and a takeover would leave a database that cannot start"
        if flag:
            return (
                "the first copy of the upstream is not complete, and a takeover would leave an old or empty database:"
                " wait for it; if an old one is better than none, remove %s and ask again" % flag
            )
    return None


def run(flag, arguments):
    """Be a master until told to end. Raises SystemExit."""
    from neo.lib import logging
    from neo.master import app as application
    from neo.master import backup_app
    from neo.master.handlers import identification, master

    if "backup" in application.Application.option_parser.getOptionDict():
        sys.exit("neo_master.py: this neomaster has an option --backup: run it as it is")
    mend_cells()
    application.BackupApplication = backup_application()
    backup_app.BootstrapManager = bootstrap_manager()
    folder = os.path.dirname(os.path.abspath(flag.path))
    backup_app.BackupHandler = backup_handler(UpstreamPartitions(folder))
    master.PrimaryHandler.invalidateObjects = hear_from_primary
    closed = Closed(os.path.join(folder, "closed"))
    identification.IdentificationHandler = identification_handler(flag, closed)
    Application = make_application(flag, closed)
    config = Application.option_parser.parse(arguments)
    if flag.exists() and not config.get("upstream_cluster"):
        sys.exit(
            "neo_master.py: %s says that this cluster is to become a backup, expected the options --upstream-cluster"
            " and --upstream-masters: give them, or remove the file to have an empty cluster" % flag.path
        )
    logging.setup(config.get("logfile"))
    Application(config).run()


def mend_cells():
    """Without this, asking for the ids in RECOVERING kills the master."""
    from neo.lib.protocol import ZERO_TID
    from neo.master.pt import Cell

    Cell.backup_tid = ZERO_TID


def identification_handler(flag, closed):
    from neo.lib.protocol import ClusterStates, NodeTypes, NotReadyError
    from neo.master.handlers.identification import IdentificationHandler as Original

    class IdentificationHandler(Original):
        """Of the primary master, for who connects."""

        def requestIdentification(self, conn, node_type, nid, address, *arguments):
            running = self.app.cluster_state == ClusterStates.RUNNING
            if node_type == NodeTypes.CLIENT and running and BACKUP not in arguments[2] and closed.holds():
                raise NotReadyError
            if node_type == NodeTypes.STORAGE and self.has_anothers_nid(nid, address):
                nid = None  # it gets one of its own
            Original.requestIdentification(self, conn, node_type, nid, address, *arguments)

        def has_anothers_nid(self, nid, address):
            """Whether a storage has the number of another one, in a new cluster, whose storages hold nothing yet.

            Two masters give the same number when the first one is killed in between; neither storage forgets it, and
            the cluster would be RECOVERING for ever.
            """
            app, other = self.app, self.app.nm.getByUUID(nid)
            is_new = flag.exists() and flag.goal() is None and not app.pt.filled()
            taken = other is not None and other.isIdentified() and other.getAddress() != address
            return is_new and taken and app.cluster_state == ClusterStates.RECOVERING

    return IdentificationHandler


def bootstrap_manager():
    from neo.lib.bootstrap import BootstrapManager as Original

    class BootstrapManager(Original):
        """Finds the upstream's primary master."""

        def __init__(self, app, node_type):
            Original.__init__(self, app, node_type, devpath=(BACKUP,))

    return BootstrapManager


def backup_handler(upstream_partitions):
    from neo.lib import logging
    from neo.master.handlers.backup import BackupHandler as Original

    class BackupHandler(Original):
        """Of the primary master, for the upstream's."""

        def sendPartitionTable(self, conn, ptid, num_replicas, row_list):
            wrong = upstream_partitions.note(len(row_list), self.app.app.pt.getPartitions())
            if wrong:
                logging.error(wrong)
                sys.exit("neo_master.py: " + wrong)
            Original.sendPartitionTable(self, conn, ptid, num_replicas, row_list)

    return BackupHandler


def make_application(flag, closed):
    """NEO's master application with what is described above."""
    from neo.lib import logging
    from neo.lib.protocol import ZERO_TID, ClusterStates, Packets
    from neo.lib.util import p64, u64
    from neo.master import app as application

    class Application(application.Application):
        new_flag = flag

        def __init__(self, config):
            super(Application, self).__init__(config)
            self.administration_handler = administration_handler()(self)
            self.secondary_handler = secondary_handler()(self)
            self._poll, self.em.poll = self.em.poll, self.poll

        def poll(self, *arguments):
            """In place of the event manager's, which all of NEO's loops call all along."""
            self._poll(*arguments)
            if self.cluster_state == ClusterStates.RUNNING and closed.is_due() and closed.holds():
                for node in self.nm.getClientList(only_identified=True):
                    if BACKUP not in node.devpath:
                        logging.warning("%r is sent away, as %s says", node, closed.path)
                        node.getConnection().close()

        def provideService(self):
            """Called after verification, before anybody may write, when the storages do not know of a backup mode."""
            if flag.exists():
                if self.getLastTransaction() == ZERO_TID:
                    logging.warning("this new cluster becomes a backup of %s", self.backup_app.name)
                    self.pt.setBackupTidDict({})
                    self.backup_tid = ZERO_TID
                    return
                logging.warning("the cluster was a backup and is none any more: %s is removed", flag.path)
                self.first_copy_complete()
            super(Application, self).provideService()
            # It returns when an administrator has asked for STARTING_BACKUP.
            if self.getLastTransaction() == ZERO_TID:
                flag.write(None)

        def changeClusterState(self, state):
            if state == ClusterStates.STARTING_BACKUP:
                # The original takes for granted that a backup has no readers, and dies when the upstream goes.
                for node in self.nm.getClientList(only_identified=True):
                    node.getConnection().close()
            super(Application, self).changeClusterState(state)
            if self.serves():
                self.tell_secondaries()

        def upstream_ends_at(self, tid):
            if flag.lower(u64(tid)):
                logging.warning("the first copy will be complete at 0x%x", flag.goal())
                self.tell_secondaries()

        def look_at_first_copy(self):
            goal = flag.goal()
            if goal is not None and u64(self.pt.getBackupTid()) >= goal:
                logging.warning("the first copy is complete")
                self.first_copy_complete()

        def first_copy_complete(self):
            flag.remove()
            self.tell_secondaries()

        def tell_secondaries(self):
            for node in self.nm.getMasterList(only_identified=True):
                if node is not self._node:
                    self.tell(node)

        def tell(self, node_or_connection):
            """The other masters keep files of their own; this message is one that NEO never sends to them."""
            if not flag.exists():
                node_or_connection.send(Packets.InvalidateObjects(ZERO_TID, []))
            elif flag.goal() is not None:
                node_or_connection.send(Packets.InvalidateObjects(p64(flag.goal()), []))

        def is_backup(self):
            return str(self.cluster_state) in BACKUP_STATES

        def serves(self):
            return self.is_backup() or self.cluster_state == ClusterStates.RUNNING

    return Application


def hear_from_primary(handler, conn, tid, oid_list):
    """A secondary master hears how far the first copy goes, or, by a zero, that it is complete."""
    from neo.lib.protocol import ZERO_TID
    from neo.lib.util import u64

    flag = handler.app.new_flag
    if tid == ZERO_TID:
        flag.remove()
    else:
        flag.write(u64(tid))


def backup_application():
    from neo.master.backup_app import BackupApplication as Original

    class BackupApplication(Original):
        """Follows the upstream; `app` is the Application."""

        def invalidatePartitions(self, tid, prev_tid, partition_set):
            """The upstream's last transaction is `tid`: told once after connecting, then for each one."""
            Original.invalidatePartitions(self, tid, prev_tid, partition_set)
            if self.app.new_flag.exists():
                if self.ignore_invalidations or self.app.new_flag.goal() is None:
                    self.app.upstream_ends_at(tid)
                self.app.look_at_first_copy()

        def notifyReplicationDone(self, node, offset, tid):
            result = Original.notifyReplicationDone(self, node, offset, tid)
            self.app.look_at_first_copy()
            return result

    return BackupApplication


def secondary_handler():
    from neo.master.handlers.master import SecondaryHandler as Original

    class SecondaryHandler(Original):
        """Of the primary master, for other masters."""

        def handlerSwitched(self, conn, new):
            Original.handlerSwitched(self, conn, new)
            if self.app.serves():
                self.app.tell(conn)

    return SecondaryHandler


def administration_handler():
    from neo.lib import logging
    from neo.lib.handler import AnswerDenied
    from neo.lib.protocol import ZERO_TID, Packets
    from neo.lib.util import p64, u64
    from neo.master.handlers.administration import AdministrationHandler as Original

    def refuse(what, why):
        message = "%s refused: %s" % (what, why)
        logging.warning(message)
        raise AnswerDenied(message)

    class AdministrationHandler(Original):
        """For admin nodes."""

        def setClusterState(self, conn, state):
            app = self.app
            backup_tid = ZERO
            if app.is_backup():
                app.look_at_first_copy()
                backup_tid = u64(app.pt.getBackupTid())
            flag = app.new_flag.path if app.new_flag.exists() else None
            why = refusal(str(state), str(app.cluster_state), app.backup_app is not None, flag, backup_tid)
            if why:
                refuse(state, why)
            Original.setClusterState(self, conn, state)

        def truncate(self, conn, tid):
            if not tid or tid == ZERO_TID:
                refuse("truncate", "the storages could never start again, expected a tid above zero")
            Original.truncate(self, conn, tid)

        def askRecovery(self, conn):
            """Its last part is of no use while the cluster serves: there we say how far the first copy goes."""
            app = self.app
            if not app.is_backup() or not app.new_flag.exists():
                Original.askRecovery(self, conn)
                return
            goal = p64(app.new_flag.goal() or ZERO)
            conn.answer(Packets.AnswerRecovery(app.pt.getID(), app.pt.getBackupTid(), goal))

    return AdministrationHandler


def main(arguments):
    """Exit codes: neomaster's, or 2 for wrong arguments."""
    if len(arguments) < 3 or arguments[0] != "--new-flag" or arguments[2] != "--":
        sys.stderr.write("usage: neo_master.py --new-flag FILE -- ARGUMENTS OF NEOMASTER\n")
        return 2
    return run(NewFlag(arguments[1]), arguments[3:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
