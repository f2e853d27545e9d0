# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the Zopes of a partition while their database serves, and answers in their place when not: `zope-standby`.

One for each partition, with few modules, as it is always there: it reads the JSON file itself, whose shape
zope/config.py checks for every other program. It follows the database, decides (standby_decide.py), and acts; requests
come by the FIFO var/run/zope.standby, and var/run/zope.standby.json tells how all stand (standby_state.py).
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time

from slapos.recipe.erp5 import lean, supervise
from slapos.recipe.erp5.zope import door, follow
from slapos.recipe.erp5.zope.standby_decide import (
    ALL,
    RUNNING,
    SERVING,
    WAITING,
    Database,
    Decision,
    decide,
    hold_after,
    is_held,
)
from slapos.recipe.erp5.zope.standby_zope import Zope

COMMANDS = ("hold", "release", "restart")
ORPHANS_FOR = 15.0
"""Seconds that Zopes of a supervisor that was killed have to end; they were asked to by its end."""

KEEP_AGAIN_AFTER = 5.0


def parse(line: str) -> tuple[str, str, str] | None:
    """A request as (command, family or ALL, id); None for anything else."""
    words = line.split()
    return (words[0], words[1], words[2]) if len(words) == 3 and words[0] in COMMANDS else None


class Standby:
    """All Zopes of a partition; `config` is what is in its JSON file."""

    def __init__(self, path: str, config: dict, start: list[str]) -> None:
        partition = config["partition"]
        self.fifo_path = f"{partition}/var/run/zope.standby"
        self.state_path = f"{partition}/var/run/zope.standby.json"
        self.held_path = f"{partition}/srv/zope-held.json"
        visitors = min(door.MOST, max(door.MOST_OF_ALL // len(config["zopes"]), 1))
        self.zopes = [
            Zope(
                zope["name"],
                zope["family"],
                (zope["host"], zope["port"]),
                _command(start, path, zope["name"]),
                visitors,
            )
            for zope in config["zopes"]
        ]
        self.families = frozenset(zope.family for zope in self.zopes)
        self.follower = _follower(config)
        self.seen, self.seen_since = "", supervise.moment()
        self.down_since, self.served, self.ending = time.monotonic(), False, False
        self.earlier_families: frozenset[str] = frozenset()
        self.orphans, self.orphans_until = self._earlier(), time.monotonic() + ORPHANS_FOR
        self.kept, self.keep_at = True, 0.0  # whether what is held is written down, else when that is tried again
        self.held = self._load_held(config["hold"])
        self.pending: list[tuple[str, str, str]] = []
        self.answered: list[str] = []
        self.received: list[int] = []
        self.buffer, self.told = b"", ""

    # ---- what is kept

    def _earlier(self) -> list[tuple[int, bytes]]:
        """From an earlier supervisor: its Zopes (pid, when that began), and what it noted of their ends."""
        orphans = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            with open(self.state_path, encoding="utf-8") as file:
                state = json.load(file)
            self.served = bool(state["served"])
            self.earlier_families = frozenset(noted["family"] for noted in state["zopes"])
            for noted in state["zopes"]:
                if noted["child-pid"]:
                    orphans.append((noted["child-pid"], noted["child-began"].encode()))
                for zope in self.zopes:
                    if zope.name == noted["name"]:
                        zope.ends = list(noted["ends"])[-supervise.KEPT :]
        return orphans

    def _load_held(self, at_creation: list[str]) -> frozenset[str]:
        """The families that are held back: as somebody asked last, or as each was created."""
        try:
            with open(self.held_path, encoding="utf-8") as file:
                before = frozenset(json.load(file))
        except (OSError, ValueError):
            before, self.held = frozenset(), frozenset(at_creation)
        else:
            new = self.families - self.earlier_families if self.earlier_families else frozenset()
            self.held = before & (self.families | {ALL}) | new & frozenset(at_creation)
        if self.held != before or not self.held:
            self._save_held()
        return self.held

    def _save_held(self) -> None:
        self.kept = _write(self.held_path, sorted(self.held), durable=True)
        self.keep_at = time.monotonic() + KEEP_AGAIN_AFTER

    def _save(self) -> None:
        follower = self.follower
        if self.seen != follower.state:
            self.seen, self.seen_since = follower.state, supervise.moment()
        known = {"name": follower.name, "state": follower.state, "detail": follower.detail}
        database = {**known, "since": self.seen_since}
        state = {
            "pid": os.getpid(),
            "database": database,
            "held": sorted(self.held),
            "served": self.served,
            "zopes": [zope.standing() for zope in self.zopes],
            "answered": self.answered,
        }
        text = json.dumps(state)
        if text != self.told:
            self.told = text
            _write(self.state_path, state)

    # ---- the loop

    def listen(self) -> bool:
        """Make the FIFO, or take the one that is there; False when another supervisor has it."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.fifo_path, 0o600)
        self.fifo = os.open(self.fifo_path, os.O_RDWR | os.O_NONBLOCK)  # for writing too: else it would be at its end
        try:
            fcntl.flock(self.fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.wake, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in supervise.SIGNALS:
            signal.signal(number, lambda number, frame: self.received.append(number))
        return True

    def serve(self) -> None:
        """Until SIGTERM or SIGINT, and the end of all Zopes."""
        while self._turn():
            self._wait()
        self._save()
        self.follower.close()

    def _turn(self) -> bool:
        """Once everything that may have to be done; False at the end."""
        now = time.monotonic()
        self.ending = self.ending or any(number in (signal.SIGTERM, signal.SIGINT) for number in self.received)
        self.received.clear()
        self._look_at_orphans(now)
        if self.follower.always or any(not zope.is_ready for zope in self.zopes):
            self.follower.turn(now)
        if self.follower.state == RUNNING:
            self.down_since = 0.0
        elif not self.down_since:
            self.down_since = now
        for zope in self.zopes:
            zope.take_ready()
            zope.look_at_child(now)
            zope.open_door(now)
            self._decide(zope, now)
        if not self.kept and now >= self.keep_at:
            self._save_held()
        self._answer()
        self._save()
        for zope in self.zopes:
            if zope.door:
                zope.door.turn(zope.is_open, zope.state, zope.reason)
        return not self.ending or any(zope.child for zope in self.zopes)

    def _decide(self, zope: Zope, now: float) -> None:
        if self.ending:
            if zope.child:
                zope.ask_to_end(now, kill=False)
            return
        follower = self.follower
        database = Database(follower.name, follower.state, self.down_since, follower.reachable, follower.lacks)
        first = follower.fresh and not self.served and any(other.child for other in self.zopes if other is not zope)
        decision = decide(database, zope.process, is_held(self.held, zope.family), first, now)
        if decision.act == "start" and not zope.door:
            decision = Decision(WAITING, "its port is another process's still")
        if zope.change(decision):
            detail = f" ({follower.detail})" if follower.detail else ""
            supervise.log(zope.name, f"{zope.state}: {zope.reason}{detail}")
        if decision.act == "start":
            zope.start(now)
        elif decision.act in ("end", "kill"):
            zope.ask_to_end(now, kill=decision.act == "kill")
        self.served = self.served or zope.state == SERVING

    def _look_at_orphans(self, now: float) -> None:
        """Zopes of a supervisor that was killed have the ports, and are not followed by anybody."""
        self.orphans = [(pid, when) for pid, when in self.orphans if supervise.began(pid) == when]
        if self.orphans and now >= self.orphans_until:
            for pid, _ in self.orphans:
                supervise.log("zope", f"process {pid} of an earlier supervisor still runs: SIGKILL")
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
            self.orphans_until = now + 1

    # ---- requests

    def _request(self, line: str) -> None:
        request = parse(line)
        if request is None or request[1] not in self.families | {ALL}:
            supervise.log("zope", f"a request that is none of {', '.join(COMMANDS)}, a family and an id, was ignored")
            return
        command, family, _ = request
        supervise.log("zope", f"{command} {'all' if family == ALL else family}, as asked")
        self.pending.append(request)
        if command == "restart":
            now = time.monotonic()
            for zope in self._of(family):
                zope.start_at, zope.end = now, ""
                if zope.child:
                    zope.ask_to_end(now, kill=False)
        else:
            self.held = hold_after(self.held, self.families, command, family)
            self._save_held()

    def _of(self, family: str) -> list[Zope]:
        return [zope for zope in self.zopes if family in (ALL, zope.family)]

    def _answer(self) -> None:
        """A hold or a restart is done when nothing runs any more that was to end; a hold or a release is kept then."""
        done = [
            (command, family, identifier)
            for command, family, identifier in self.pending
            if (command == "restart" or self.kept)
            and (command == "release" or not any(zope.child and zope.asked for zope in self._of(family)))
        ]
        if done:
            self.pending = [request for request in self.pending if request not in done]
            self.answered = [*self.answered, *(identifier for _, _, identifier in done)][-supervise.KEPT :]

    # ---- waiting

    def _wait(self) -> None:
        reading: list = [self.fifo, self.wake, *self.follower.descriptors()]
        writing: list = []
        for zope in self.zopes:
            reading += [zope.ready_pipe] if zope.ready_pipe >= 0 else []
            if zope.door:
                readable, writable = zope.door.waiting(zope.is_open)
                reading += readable
                writing += writable
        try:
            ready, _, _ = select.select(reading, writing, [], self._timeout())
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
            return
        if self.wake in ready:
            os.read(self.wake, 4096)
        if self.fifo in ready:
            *lines, self.buffer = (self.buffer + os.read(self.fifo, 4096)).split(b"\n")
            self.buffer = self.buffer[:4096]
            for line in lines:
                self._request(line.decode("ascii", "replace"))

    def _timeout(self) -> float:
        now = time.monotonic()
        moments = [self.follower.next_turn(), now + 1]
        for zope in self.zopes:
            moments += [moment for moment in zope.next_turn() if moment > now]
        return max(min(moments) - now, 0.01)


def _command(start: list[str], path: str, name: str) -> list[str]:
    return [*start, "--config", path, "--name", name]


def _follower(config: dict) -> follow.NeoFollower | follow.ZeoFollower:
    neo, software = config["neo"], config["software"]
    if not neo:
        return follow.ZeoFollower(config["zeo"]["address"])
    tls = [word for pair in zip(("--ca", "--cert", "--key"), neo.get("tls", ()), strict=False) for word in pair]
    words = [software["neo"], software["neo-ask"], "--cluster", neo["cluster"], *tls, "--admins", *neo["admins"]]
    return follow.NeoFollower(words, neo["cluster"], neo["masters"], neo.get("tls", ()))


def _write(path: str, value: object, durable: bool = False) -> bool:
    """Whether it could be written: a file on a full disk ends nothing."""
    try:
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(f"{path}.new", path)
    except OSError as error:
        supervise.log("zope", f"{path} cannot be written ({error.strerror}); it goes on")
        return False
    return True


def serve(arguments: list[str]) -> int:
    """Exit codes: 0 stopped by a signal, 1 another supervisor runs, or its file cannot be read, 2 wrong arguments."""
    if len(arguments) < 4 or arguments[0:3:2] != ["--config", "--start"]:
        usage = "zope-standby --config etc/zope.json --start /PATH/OF/zope-start"
        print(f"usage: {usage}\nzope-hold holds Zopes back and releases them.", file=sys.stderr)
        return 2
    try:
        with open(arguments[1], encoding="utf-8") as file:
            standby = Standby(arguments[1], json.load(file), arguments[3:])
    except (OSError, ValueError, KeyError) as error:
        supervise.log("zope", f"error: {arguments[1]} cannot be used: {error}, expected what zope/config.py describes")
        return 1
    if not standby.listen():
        supervise.log("zope", f"error: {standby.fifo_path} is another supervisor's, expected nobody to have it: end it")
        return 1
    standby.serve()
    return 0


def main() -> None:
    lean.become(__name__)
