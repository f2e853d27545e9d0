# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps one command running, restarts it on request, and leaves no process of it behind: `supervise.py --help`.

On its own, and with few modules, as one of these runs beside every server: `python -I -S -B supervise.py` takes 10 MiB,
4 of them its own.
The command leads a process group of its own, so that all of it can be ended; it gets SIGTERM when this program dies.
"""

import contextlib
import errno
import fcntl
import json
import marshal
import os
import select
import signal
import sys
import time

FIRST_PAUSE, LONGEST_PAUSE = 1, 300
"""Seconds until it starts again after an end that nobody asked for; each pause is twice as long as the one before."""
LONG_ENOUGH = 600
"""Seconds; what ran as long as that begins with the first pause again."""
PATIENCE = 50
"""Seconds from SIGTERM to SIGKILL: fewer than the 60 after which SlapOS kills, as it could not reach the command."""
KEPT = 20
"""How many ends, and how many answers, the state names."""
COMMANDS = ("restart", "stop", "start")
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


# ---- decide


def failures_after(before: int, ran: float) -> int:
    """How many failures in a row there are with the one of a command that `ran` so many seconds."""
    return 1 if ran >= LONG_ENOUGH else before + 1


def pause(failures: int) -> int:
    """Seconds to wait after so many failures in a row: 1, 2, 4 and so on up to five minutes."""
    return min(FIRST_PAUSE * 2 ** min(failures - 1, 20), LONGEST_PAUSE)


def describe(status: int) -> str:
    """How a process ended that has this wait status, in words."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with status {os.WEXITSTATUS(status)}"


def parse(line: str) -> tuple[str, str, int] | None:
    """A request as (command, id, pid of the holder), the last two optional: empty and 0; None for anything else."""
    words = line.split()
    if not 1 <= len(words) <= 3 or words[0] not in COMMANDS or not all(word.isdigit() for word in words[2:]):
        return None
    return words[0], words[1] if len(words) > 1 else "", int(words[2]) if len(words) > 2 else 0


# ---- gather


def began(pid: int) -> bytes | None:
    """When the process `pid` was started, in the kernel's own unit; None when there is none, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else words[19]


def members(group: int) -> list[int]:
    """The processes of a process group that still run."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state not in (b"Z", b"X"):
                found.append(int(name))
    return found


# ---- act


def log(name: str, message: str) -> None:
    """One line with the local time on stderr; a log on a full disk ends nothing."""
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} supervisor of {name}: {message}\n".encode())


def moment(seconds_from_now: float = 0) -> str:
    """A moment as text, as slapos.recipe.erp5.times writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))


def start(command: list[str]) -> int:
    """Start `command` at the head of a process group of its own; returns its pid. Raises OSError."""
    parent = os.getpid()
    # A signal between fork and exec would be taken by handlers of ours that do nothing there.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, parent)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here too: whoever is first
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _become(command: list[str], parent: int) -> None:
    try:
        import ctypes  # here alone: it takes a MiB

        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # one that died before the call is not noticed
            os._exit(127)
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.execv(command[0], command)
    except BaseException as error:
        log(command[0], f"cannot be started: {error}")
    finally:
        os._exit(127)


class Supervisor:
    """One command; `goal` is what was asked for last: run, stop or end."""

    def __init__(self, run: str, name: str, command: list[str]) -> None:
        self.name, self.command = name, command
        self.fifo_path = os.path.join(run, f"{name}.supervise")
        self.state_path = os.path.join(run, f"{name}.supervisor.json")
        self.goal, self.state, self.since, self.next_start = "run", "waiting", moment(), ""
        self.child, self.started, self.start_at = 0, 0.0, time.monotonic()
        self.asked, self.kill_at, self.orphan_until = False, 0.0, time.monotonic() + PATIENCE
        self.ended = 0.0  # when the child has ended, while others of its group have not
        self.failures, self.ends, self.orphan = 0, *self._earlier()
        # (pid, when that began): who has stopped it, until it starts it again or ends
        self.holder: tuple[int, bytes | None] | None = None
        self.pending: list[str] = []
        self.answered: list[str] = []
        self.received: list[int] = []
        self.buffer = b""

    def _earlier(self) -> tuple[list[dict], tuple[int, bytes] | None]:
        """From an earlier supervisor: the ends that it noted, and its command (pid, when that began) if one ran."""
        try:
            with open(self.state_path, encoding="utf-8") as file:
                state = json.load(file)
            orphan = (state["child-pid"], state["child-began"].encode()) if state.get("child-began") else None
            return list(state["ends"])[-KEPT:], orphan
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [], None

    def listen(self) -> bool:
        """Make the FIFO, or take the one that is there; False when another supervisor has it."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.fifo_path, 0o600)
        # For writing too: else it would be at its end whenever a client closes it.
        self.fifo = os.open(self.fifo_path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(self.fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.wake, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: self.received.append(number))
        return True

    def serve(self) -> None:
        """Until SIGTERM or SIGINT, and the end of the command."""
        while True:
            self._take_signals()
            now = time.monotonic()
            self._look_at_child(now)
            self._look_at_orphan(now)
            self._look_at_holder()
            if not self.child:
                if self.goal == "end":
                    self._change("stopped")
                    return
                if self.goal == "run" and now >= self.start_at:
                    self._start(now)
                elif self.goal == "stop" and self.state != "stopped":
                    self._change("stopped")
            self._answer()
            self._wait()

    # -- requests

    def _ask(self, goal: str, holder: tuple[int, bytes | None] | None = None) -> None:
        """Go for `goal`; a command that runs is asked to end when that is not what is wanted."""
        if self.goal == "end":
            return
        self.goal, self.holder = goal, holder
        if goal != "run":
            self._end_child()

    def _take_signals(self) -> None:
        """Not in the handlers, which run in the middle of anything, such as a start."""
        while self.received:
            number = self.received.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ask("end")
            elif number == signal.SIGHUP and self.child and not self.ended:
                os.kill(self.child, number)  # servers read their configuration or open their logs again

    def _end_child(self) -> None:
        if self.child and not self.asked:
            self.asked, self.kill_at = True, time.monotonic() + PATIENCE
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, number)

    def _request(self, line: str) -> None:
        request = parse(line)
        if request is None:
            log(self.name, f"a request that is none of {', '.join(COMMANDS)} was ignored")
            return
        command, identifier, pid = request
        holder = (pid, began(pid)) if pid else None
        if command == "stop" and holder and not holder[1]:  # nobody would ever start it again
            log(self.name, f"{command} by process {pid}, which has ended already, was ignored")
            return
        log(self.name, f"{command}, as asked")
        if identifier:
            self.pending.append(identifier)
        if command == "stop":
            self._ask("stop", holder)
        elif command == "start" or self.goal == "run":  # what somebody has stopped stays so at a restart
            if command == "restart":
                self._end_child()
            self.start_at = time.monotonic()
            self._ask("run")

    def _look_at_holder(self) -> None:
        if self.holder and began(self.holder[0]) != self.holder[1]:
            log(self.name, f"process {self.holder[0]} stopped it and has ended without starting it again: start")
            self._ask("run")
            self.start_at = time.monotonic()

    def _look_at_orphan(self, now: float) -> None:
        """Kill what a killed supervisor has left, which hangs and has what the command needs, such as a lock."""
        if self.orphan and now >= self.orphan_until:
            pid, when = self.orphan
            if began(pid) == when:
                log(self.name, f"process {pid} of an earlier supervisor still runs after {PATIENCE} s: SIGKILL")
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
            self.orphan = None

    def _answer(self) -> None:
        settled = self.state == "stopped" if self.goal == "stop" else bool(self.child) and not self.asked
        if self.pending and settled:
            self.answered, self.pending = (self.answered + self.pending)[-KEPT:], []
            self._save()

    # -- the command

    def _start(self, now: float) -> None:
        try:
            self.child, self.started, self.asked, self.ended = start(self.command), now, False, 0.0
        except OSError as error:
            self._failed(now, f"cannot be started ({error.strerror})", 0)
            return
        self._change("running")

    def _look_at_child(self, now: float) -> None:
        """Notice its end, and see to it that all of its group ends too, before the group's number can be another's."""
        if not self.child:
            return
        if not self.ended and os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.ended = now
            if not self.asked:
                self.kill_at = now + PATIENCE
                self._signal(signal.SIGTERM)
        if not self.ended:
            if self.asked and now >= self.kill_at:
                log(self.name, f"has not ended {PATIENCE} s after SIGTERM: SIGKILL")
                self.kill_at = now + 1
                self._signal(signal.SIGKILL)
            return
        if members(self.child):
            if now >= self.kill_at:
                self._signal(signal.SIGKILL)
            return
        _, status = os.waitpid(self.child, 0)
        self.child, ran = 0, self.ended - self.started
        if self.asked:
            log(self.name, f"{describe(status)}, as asked")
            self.asked, self.start_at = False, now
        else:
            self._failed(now, describe(status), ran)

    def _failed(self, now: float, how: str, ran: float) -> None:
        self.failures = failures_after(self.failures, ran)
        seconds = pause(self.failures)
        self.start_at = now + seconds
        self.ends = [*self.ends, {"at": moment(), "how": how, "ran": round(ran, 1)}][-KEPT:]
        log(self.name, f"{how} after {ran:.0f} s, which nobody asked for; it starts again in {seconds} s")
        self._change("waiting", moment(seconds))

    def _change(self, state: str, next_start: str = "") -> None:
        self.state, self.since, self.next_start = state, moment(), next_start
        self._save()

    def _save(self) -> None:
        state = {
            "pid": os.getpid(),
            "child-pid": self.child,
            "child-began": ((began(self.child) if self.child else None) or b"").decode(),
            "state": self.state,
            "since": self.since,
            "next-start": self.next_start,
            "ends": self.ends,
            "answered": self.answered,
        }
        try:
            descriptor = os.open(f"{self.state_path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(state, file)
            os.replace(f"{self.state_path}.new", self.state_path)
        except OSError as error:
            log(self.name, f"its state cannot be written ({error.strerror}); it goes on")

    # -- waiting

    def _wait(self) -> None:
        try:
            readable, _, _ = select.select([self.fifo, self.wake], [], [], self._timeout())
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
            return
        if self.wake in readable:
            os.read(self.wake, 4096)
        if self.fifo in readable:
            *lines, self.buffer = (self.buffer + os.read(self.fifo, 4096)).split(b"\n")
            self.buffer = self.buffer[:4096]
            for line in lines:
                self._request(line.decode("ascii", "replace"))

    def _timeout(self) -> float | None:
        """Seconds until something may have to be done without being woken; None: never."""
        now = time.monotonic()
        if self.child and self.ended:
            return 0.02  # the rest of a group ends without our being told
        if self.child and self.asked:
            return max(self.kill_at - now, 0.02)
        if self.holder:
            return 1
        moments = [self.start_at] if not self.child and self.goal == "run" else []
        moments += [self.orphan_until] if self.orphan else []
        return max(min(moments) - now, 0) if moments else None


def main(arguments: list[str]) -> int:
    """Exit codes: 0 stopped by a signal, 1 another supervisor runs, 2 wrong arguments."""
    if len(arguments) < 6 or arguments[0:5:2] != ["--name", "--run", "--"]:
        usage = "supervise.py --name NAME --run FOLDER -- /PATH/OF/COMMAND [ARGUMENT...]"
        print(f"usage: {usage}\nWrite restart, stop or start into FOLDER/NAME.supervise.", file=sys.stderr)
        return 2
    name, run, command = arguments[1], arguments[3], arguments[5:]
    supervisor = Supervisor(run, name, command)
    if not supervisor.listen():
        log(name, f"error: {supervisor.fifo_path} is another supervisor's, expected nobody to have it: end that one")
        return 1
    supervisor.serve()
    return 0


def run_compiled(arguments: list[str]) -> None:
    """Become a process that has never compiled this file: that takes 1.5 MiB, which would never be given back."""
    with open(__file__, "rb") as file:
        code = marshal.dumps(compile(file.read(), __file__, "exec"))
    descriptor = os.memfd_create("supervise", 0)
    os.write(descriptor, code)
    load = f"code = os.pread({descriptor}, {len(code)}, 0); os.close({descriptor}); exec(marshal.loads(code))"
    program = f"import marshal, os, sys; __name__ = 'supervise'; {load}; sys.exit(main(sys.argv[1:]))"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", "-c", program, *arguments])


if __name__ == "__main__":
    run_compiled(sys.argv[1:])
