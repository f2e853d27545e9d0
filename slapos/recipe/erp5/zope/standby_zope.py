# SPDX-License-Identifier: GPL-2.0-or-later
"""One Zope under the standby supervisor: its socket, its process, and how it stands."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence

from slapos.recipe.erp5 import supervise
from slapos.recipe.erp5.zope import door
from slapos.recipe.erp5.zope.standby_decide import SERVING, WAITING, Decision, Process

BACKUP = 75
"""The exit code of a Zope that found its NEO cluster to be a backup (py2/zope_serve.py)."""
AFTER_BACKUP = 1.0
"""Seconds after such an end; by then the follower has heard of it, too."""
BACKUPS = 3
"""So many such ends in a row are none that pass: what is asked for the state is not the cluster that Zope is at."""
PATIENCE = 20.0
"""Seconds from SIGTERM to SIGKILL: twice as long as a Zope gives to its requests."""
BIND_AGAIN_AFTER = 1.0


class Zope:
    """What is known of one; `command` gets the numbers of two descriptors, of the socket and of the pipe, appended; at
    most so many `visitors` are answered in its place at once."""

    def __init__(
        self, name: str, family: str, address: tuple[str, int], command: Sequence[str], visitors: int = door.MOST
    ) -> None:
        self.visitors = visitors
        self.name, self.family, self.address, self.command = name, family, address, list(command)
        self.state, self.reason, self.since = WAITING, "its supervisor has just started", supervise.moment()
        self.next_start = ""
        self.door: door.Door | None = None
        self.child, self.ready_pipe, self.kill_at, self.ended = 0, -1, 0.0, 0.0
        self.is_ready = self.asked = False
        self.started = self.start_at = self.bind_at = 0.0
        self.failures, self.backups, self.end = 0, 0, ""
        self.ends: list[dict] = []

    # ---- how it stands

    @property
    def process(self) -> Process:
        return Process(bool(self.child), self.is_ready, self.asked, self.start_at, self.end)

    @property
    def is_open(self) -> bool:
        """Whether it is us who answer on its port."""
        return self.state != SERVING

    def change(self, decision: Decision) -> bool:
        """Note what was decided; whether the state is another one."""
        changed = self.state != decision.state
        if changed:
            self.state, self.since = decision.state, supervise.moment()
        changed = changed or self.reason != decision.reason
        self.reason = decision.reason
        return changed

    def standing(self) -> dict[str, object]:
        """As the state file has it."""
        began = supervise.began(self.child) if self.child else None
        return {
            "name": self.name,
            "family": self.family,
            "port": self.address[1],
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "next-start": self.next_start,
            "child-pid": self.child,
            "child-began": (began or b"").decode(),
            "ends": self.ends,
        }

    # ---- its socket

    def open_door(self, now: float) -> None:
        """Listen, if need be and possible; another process may have the port still, such as an earlier Zope."""
        if self.door is None and now >= self.bind_at:
            try:
                self.door = door.Door(door.listen(*self.address), self.visitors)
            except OSError as error:
                if self.bind_at == 0.0:
                    supervise.log(self.name, f"port {self.address[1]} cannot be had ({error.strerror}); it tries on")
                self.bind_at = now + BIND_AGAIN_AFTER

    # ---- its process

    def start(self, now: float) -> None:
        """Its process gets the socket, and a pipe to say that it serves."""
        assert self.door
        listening: socket.socket = self.door.listening
        try:
            self.ready_pipe, writer = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            self._failed(now, f"cannot be started ({error.strerror})", 0)
            return
        os.set_blocking(self.ready_pipe, False)
        words = [*self.command, "--socket", str(listening.fileno()), "--ready", str(writer)]
        os.set_inheritable(writer, True)
        listening.set_inheritable(True)
        try:
            self.child, self.started = supervise.start(words), now
            self.is_ready, self.asked, self.kill_at, self.ended = False, False, 0.0, 0.0
        except OSError as error:
            self._close_pipe()
            self._failed(now, f"cannot be started ({error.strerror})", 0)
        finally:
            listening.set_inheritable(False)
            os.close(writer)

    def ask_to_end(self, now: float, kill: bool) -> None:
        """Once: SIGTERM, and later SIGKILL; or that at once."""
        if kill:
            self._signal(signal.SIGKILL)
        elif not self.asked:
            self._signal(signal.SIGTERM)
            self.kill_at = now + PATIENCE
        self.asked = True

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, number)

    def take_ready(self) -> None:
        """Whether it has said that it serves."""
        if self.ready_pipe >= 0:
            try:
                data = os.read(self.ready_pipe, 1)
            except BlockingIOError:
                return
            self.is_ready = data == b"1"
            self.backups = 0 if self.is_ready else self.backups
            self._close_pipe()

    def _close_pipe(self) -> None:
        if self.ready_pipe >= 0:
            os.close(self.ready_pipe)
            self.ready_pipe = -1

    def look_at_child(self, now: float) -> bool:
        """Notice its end, and that of all its group; whether it has ended now."""
        if not self.child:
            return False
        if not self.ended and os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.ended = now
            self._signal(signal.SIGKILL)  # what it has left
        if not self.ended:
            if self.asked and self.kill_at and now >= self.kill_at:
                supervise.log(self.name, f"has not ended {PATIENCE:g} s after SIGTERM: SIGKILL")
                self._signal(signal.SIGKILL)
                self.kill_at = now + 1
            return False
        if supervise.members(self.child):
            return False
        _, status = os.waitpid(self.child, 0)
        self._close_pipe()
        self.child, self.is_ready, self.next_start = 0, False, ""
        if self.asked:
            self.start_at, self.end = now, ""
            supervise.log(self.name, f"{supervise.describe(status)}, as asked")
        elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == BACKUP:
            self._found_a_backup(now)
        else:
            self._failed(now, supervise.describe(status), self.ended - self.started)
        self.asked = False
        return True

    def _found_a_backup(self, now: float) -> None:
        self.backups += 1
        if self.backups < BACKUPS:
            self.start_at, self.end = now + AFTER_BACKUP, ""
            supervise.log(self.name, "ended by itself, as its NEO cluster is a backup")
        else:
            how = "found its NEO cluster to be a backup, though the admins tell that it serves (are they another's?),"
            self._failed(now, how, self.ended - self.started)

    def _failed(self, now: float, how: str, ran: float) -> None:
        self.failures = supervise.failures_after(self.failures, ran)
        seconds = supervise.pause(self.failures)
        self.start_at, self.end, self.next_start = now + seconds, how, supervise.moment(seconds)
        self.ends = [*self.ends, {"at": supervise.moment(), "how": how, "ran": round(ran, 1)}][-supervise.KEPT :]
        supervise.log(self.name, f"{how} after {ran:.0f} s, which nobody asked for; it may start again in {seconds} s")

    def next_turn(self) -> list[float]:
        """Moments at which something may have to be done."""
        if self.child and (self.ended or self.asked):
            return [time.monotonic() + 0.02]
        if self.door is None:
            return [self.bind_at]
        return [] if self.child else [self.start_at]
