# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows how the database of a partition's Zopes stands, without ever blocking: a NEO cluster, or a ZEO server."""

import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Sequence

from slapos.recipe.erp5.zope.standby_decide import RUNNING

INTERVAL = 0.5
"""Seconds between questions: so long can a takeover, or its end, go unnoticed."""
ANSWER_WITHIN = 3.0
"""Seconds that NEO has for an answer; then its state counts as unknown."""
GIVE_UP_AFTER = 6.0
"""Seconds after which the process that asks is ended, and another one started."""
START_AGAIN_AFTER = 2.0
CONNECT_WITHIN = 2.0


class NeoFollower:
    """Asks NEO's admins by way of py2/neo_ask.py, which stays; see there for the lines that go to and fro.

    `state` is the cluster's, "" when it is not known, for the reason `detail`; `fresh` is whether nothing was in it
    when it was last seen to become RUNNING; `reachable`, whether a master takes connections, though nobody tells the
    state: what is asked are admins, which clients do without. `lacks` says in words what it cannot be asked without,
    as one of the `files` is not there yet: the certificate of who asks.
    """

    always = True
    """Whether it has to be followed while all Zopes serve, too."""

    def __init__(self, command: Sequence[str], cluster: str, masters: Sequence[str], files: Sequence[str] = ()) -> None:
        self.command, self.name, self.files, self.lacks = list(command), f"the NEO cluster {cluster}", files, ""
        self._masters = Probe(masters)
        self.state, self.detail, self.fresh = "", "it was not asked yet", False
        self._pid, self._next, self._asked = 0, 0.0, 0.0
        self._to, self._from = -1, -1
        self._buffer = b""

    def descriptors(self) -> list[int]:
        """What may become readable."""
        return [self._from] if self._pid else []

    @property
    def reachable(self) -> bool:
        return bool(self.state) or self._masters.answers

    def next_turn(self) -> float:
        """The moment at which turn() has something to do without being woken."""
        moment = self._asked + GIVE_UP_AFTER if self._asked else self._next
        return moment if self.state else min(moment, self._masters.next_turn)

    def turn(self, now: float) -> None:
        """Ask when it is time, take answers that are there."""
        if self._pid:
            self._read(now)
        if self._asked and now >= self._asked + GIVE_UP_AFTER:
            self._give_up(now, "the program that asks did not answer")
        if not self._asked and now >= self._next:
            self._ask(now)
        if self.state:
            self._masters.close()  # one that was begun: nobody is to have a connection to a backup's masters
        else:
            self._masters.turn(now)

    def close(self) -> None:
        self._masters.close()
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._to)
            os.close(self._from)
            self._pid = 0

    def _ask(self, now: float) -> None:
        if not self._pid:
            missing = [path for path in self.files if not os.path.exists(path)]
            self.lacks = f"it has no certificate of {self.name} yet" if missing else ""
            if missing:
                self._give_up(now, f"nobody asks it without {missing[0]}, which the service zope-control gets")
                self._next = now + INTERVAL
                return
            try:
                self._start()
            except OSError as error:
                self._give_up(now, f"{self.command[0]} cannot be started ({error.strerror})")
                return
        try:
            os.write(self._to, json.dumps({"ask": "status", "seconds": ANSWER_WITHIN}).encode() + b"\n")
            self._asked = now
        except OSError:
            self._give_up(now, "the program that asks has ended")

    def _start(self) -> None:
        its_input, self._to = os.pipe2(os.O_CLOEXEC)
        self._from, its_output = os.pipe2(os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, its_input, 0), (os.POSIX_SPAWN_DUP2, its_output, 1)]
        # As process.FIXED, of which this process does not have the memory to spare.
        fixed = {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {"PATH": os.environ.get("PATH", os.defpath), **fixed}
        try:
            # It ends with its input, that is with this process.
            self._pid = os.posix_spawn(self.command[0], self.command, environment, file_actions=actions)
        except OSError:
            os.close(self._to)
            os.close(self._from)
            raise
        finally:
            os.close(its_input)
            os.close(its_output)
        os.set_blocking(self._from, False)
        self._buffer = b""

    def _read(self, now: float) -> None:
        try:
            data = os.read(self._from, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._give_up(now, "the program that asks has ended")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._asked, self._next = 0.0, now + INTERVAL
            before = self.state
            self.state, self.detail, last_tid = understand(line)
            if before != RUNNING == self.state:
                self.fresh = not last_tid

    def _give_up(self, now: float, why: str) -> None:
        self.close()
        self._asked, self._next = 0.0, now + START_AGAIN_AFTER
        self.state, self.detail = "", why


def understand(line: bytes) -> tuple[str, str, int]:
    """(state, why it is not known, last tid or 0) from an answer of neo_ask.py."""
    try:
        reply = json.loads(line)
        if "error" in reply:
            return "", str(reply["error"]), 0
        answer = reply["answer"]
        return str(answer.get("cluster_state", "")), str(answer.get("reason", "")), int(answer.get("last_tid", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", "the program that asks gave no answer that is one", 0


class Probe:
    """Whether somebody takes TCP connections on one of some addresses (host:port), tried in turn; never blocks, but for
    looking up an address that is a name.

    `answers` is what was found last, `detail` why nobody does.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        split = [address.rpartition(":") for address in addresses]
        self.addresses = [(host.strip("[]"), int(port)) for host, _, port in split]
        self.answers, self.detail, self.next_turn = False, "it was not asked yet", 0.0
        self._turn, self._began, self._failed = 0, 0.0, 0
        self._socket: socket.socket | None = None
        self._to: tuple = ()

    def turn(self, now: float) -> None:
        """Go on, when it is time."""
        if now < self.next_turn:
            return
        try:
            number = self._connect(self.addresses[self._turn % len(self.addresses)], now)
        except (OSError, OverflowError) as error:  # such as a name that is not known, or no such port
            why = getattr(error, "strerror", None) or str(error)
        else:
            if number in (errno.EINPROGRESS, errno.EALREADY) and now < self._began + CONNECT_WITHIN:
                self.next_turn = now + 0.05
                return
            why = "" if number in (0, errno.EISCONN) else os.strerror(number)
        self.close()
        self.next_turn = now + 2 * INTERVAL
        self._conclude(why)

    def _connect(self, address: tuple[str, int], now: float) -> int:
        """Begin, or go on; returns an error's number. Raises OSError, OverflowError when it cannot even begin."""
        if self._socket is None:
            # Text would load the codec of international names.
            family, kind, _, _, found = socket.getaddrinfo(address[0].encode(), None, type=socket.SOCK_STREAM)[0]
            self._socket, self._to = socket.socket(family, kind), (found[0], address[1], *found[2:])
            self._socket.setblocking(False)
            self._began = now
        return self._socket.connect_ex(self._to)

    def _conclude(self, why: str) -> None:
        """One that answers is kept to; without any, all of them were tried before that is said."""
        if not why:
            self.answers, self.detail, self._failed = True, "", 0
            return
        self._turn, self._failed = self._turn + 1, self._failed + 1
        if self._failed >= len(self.addresses):
            self.answers, self.detail = False, why

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class ZeoFollower:
    """A ZEO server has no states: it takes connections (RUNNING), or not. Its clients connect again by themselves."""

    always = False
    fresh = True
    """That is not known."""
    lacks = ""

    def __init__(self, address: str) -> None:
        self.name, self._probe = "the ZEO server", Probe([address])

    @property
    def state(self) -> str:
        return RUNNING if self._probe.answers else ""

    @property
    def detail(self) -> str:
        return self._probe.detail

    @property
    def reachable(self) -> bool:
        return self._probe.answers

    def descriptors(self) -> list[int]:
        return []

    def next_turn(self) -> float:
        return self._probe.next_turn

    def turn(self, now: float) -> None:
        self._probe.turn(now)

    def close(self) -> None:
        self._probe.close()
