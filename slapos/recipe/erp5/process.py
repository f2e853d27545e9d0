# SPDX-License-Identifier: GPL-2.0-or-later
"""What our programs share: commands that leave no orphan, files replaced whole, one run at a time, one way to fail."""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from slapos.recipe.erp5.errors import Busy, CommandError, Error

# The client programs fall back to latin1 in an empty environment (measured), and speak the caller's language. Python
# 2.7 would write compiled modules into a release that the account may write to, which others could not read.
FIXED = {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
KEPT = ("PATH", "HOME", "TMPDIR", "TZ")
PIPE_SIZE = 1 << 20
"""/proc/sys/fs/pipe-max-size, unless somebody changed it."""
LAST_WORDS = 600
"""How many characters of a failed command's output an error carries."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_libc = ctypes.CDLL(None, use_errno=True)


# ---- commands


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The small environment of our commands: PATH, HOME, TMPDIR, TZ as they are here, a fixed locale, and `extra`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, **FIXED, **(extra or {})}


def die_with_parent(signal_number: int = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn`: the child gets `signal_number` when the thread that started it ends, even by SIGKILL (prctl(2)).

    It is the thread that the kernel watches: start the child from one that lives as long as the child.
    """
    parent = os.getpid()

    def arrange() -> None:
        failed = _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0
        if failed or os.getppid() != parent:  # a parent that died before the call would never be noticed
            os._exit(127)

    return arrange


def start(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options) -> subprocess.Popen[bytes]:
    """Start `command` with our small environment, dying with us, nothing on stdin; `options` are Popen's.

    Raises CommandError when it cannot be started at all.
    """
    arguments = [str(word) for word in command]
    options = {"stdin": subprocess.DEVNULL, "preexec_fn": die_with_parent(), **options}
    child = None
    try:
        with _interruption.postponed():
            child = subprocess.Popen(arguments, env=environment(env), **options)
    except OSError as error:
        raise CommandError(f"{arguments[0]} cannot be started: {error}") from error
    except SystemExit:
        if child:
            child.kill()
            child.wait()
        raise
    return child


def enlarge_pipe(pipe: IO[bytes]) -> None:
    """Let a pipe hold as much as the kernel allows to everybody: fewer turns between the two ends of a large stream."""
    with contextlib.suppress(OSError):  # the account's share of such memory is used up: as it is, it works too
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


def run(
    command: Sequence[str | Path],
    attempt: str,
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `command` to its end; its output (bytes) is in `stdout` and `stderr` of what is returned.

    `attempt` completes the sentence "cannot ...", such as "load the time zones"; secrets go in by `stdin`, never by
    `command`; `accept` lists the exit codes that are no failure; `timeout` is in seconds.
    Raises CommandError, with the attempt and the command's last words; it is killed on the way out of an exception.
    """
    with start(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            stdout, stderr = child.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise CommandError(f"cannot {attempt}: {command[0]} did not end within {timeout:g} s") from error
        except BaseException:
            child.kill()
            raise
    if child.returncode not in accept:
        raise failure(command, attempt, child.returncode, stderr or stdout)
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


def failure(command: Sequence[str | Path], attempt: str, code: int, output: bytes) -> CommandError:
    """The CommandError of a command that ended with `code` (negative: a signal's number) after writing `output`."""
    end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return CommandError(f"cannot {attempt}: {Path(command[0]).name} {end}: {last_words(output)}")


def last_words(output: bytes) -> str:
    """The end of a command's output as one line, at most LAST_WORDS characters."""
    words = " ".join(output.decode("utf-8", "replace").split())
    return ("..." + words[-LAST_WORDS:] if len(words) > LAST_WORDS else words) or "it said nothing"


# ---- files


def write_atomically(path: str | Path, content: str | bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by `content` (text in UTF-8), whole or not at all; permission bits `mode`.

    Power cuts are included, unless what is not `durable` need not survive one: that does not wait for the disk.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    with attempting(f"write {path}"):
        _replace(path, data, mode, durable)


def _replace(path: Path, data: bytes, mode: int, durable: bool) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: str | Path) -> None:
    """Make a rename, creation or removal inside the folder `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: str | Path) -> None:
    """Make all that was written to the filesystem of the folder `path` survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: str | Path, busy: str) -> Iterator[None]:
    """Hold an exclusive flock on the file `path` (made when missing, never removed, not inherited by commands).

    Raises Busy with the sentence `busy` at once when another process, or another holder in this one, has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(busy) from error
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds a flock on `path`; looking does not take it, not even for a moment."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    # proc_locks(5): number, FLOCK, ADVISORY, WRITE, pid, major:minor:inode, start, end; waiting ones have "->".
    held = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line)
    return any(words[1] == "FLOCK" and int(words[5].rpartition(":")[2]) == inode for words in held)


# ---- programs


def log(message: str) -> None:
    """Write `message` as one line with the local time on stderr, which the supervisor keeps as a service's log."""
    try:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}", file=sys.stderr, flush=True)
    except OSError:
        # A log on a full disk must not end the work that it is about, nor, by what stays in its buffer, spoil the exit
        # code (Python ends with 120 when it cannot flush).
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def step(message: str) -> Iterator[None]:
    """Log `step: message` at the beginning, and how many seconds it took at the end when that was a second or more."""
    log(f"step: {message}")
    began = time.monotonic()
    with attempting(message):
        yield
    seconds = time.monotonic() - began
    if seconds >= 1:
        log(f"step: {message}: done in {seconds:.1f} s")


@contextlib.contextmanager
def attempting(message: str) -> Iterator[None]:
    """Lets describe() say of an OSError from inside that we cannot `message`, such as "load the time zones"."""
    try:
        yield
    except OSError as error:
        error.add_note(message)
        raise


def describe(error: Exception) -> str:
    """An error as one sentence; an OSError's is what was attempted, on which path, and why that failed.

    Of what nobody foresaw it has the type and the place alone: its words could quote a secret.
    """
    if isinstance(error, Error):
        return str(error)
    if not isinstance(error, OSError):
        return f"unexpected {type(error).__name__}{_place(error)}, expected none: report it"
    attempts = [f"cannot {message}" for message in reversed(getattr(error, "__notes__", []))]
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    remedy = ["free disk space"] if error.errno in (errno.ENOSPC, errno.EDQUOT) else []
    return ": ".join([*attempts, *paths[-1:], reason(error), *remedy])


def reason(error: Exception) -> str:
    """Why a system call or an exchange failed, in one line: the system's words, where there are any."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())


def _place(error: Exception) -> str:
    """Where our own code was when it met with `error`."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/slapos/recipe/erp5/" in frame.filename]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def program(body: Callable[[], int | None]) -> int:
    """Call `body` as a program's whole work; returns its exit code, an Error or OSError being a sentence and status 1.

    SIGTERM, SIGHUP and SIGINT end it like an exception, so that what it has begun is cleaned up: status 128 + signal.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interruption)
    try:
        with attempting(f"complete {Path(sys.argv[0]).name}"):
            return body() or 0
    except (Error, OSError) as error:
        log(f"error: {describe(error)}")
        return 1


class _Interruption:
    """The exception that a signal becomes; it waits while a command is being started.

    In the middle of that it would be lost: Python throws away what is raised in the functions that it calls around
    fork(2), such as those of the logging module (3.11, seen), and the program would never end.
    """

    def __init__(self) -> None:
        self._postponing, self._asked = False, 0

    def __call__(self, number: int, frame: object) -> None:
        # Once is enough: a second signal, such as the one for the whole process group, would cut the cleaning up short.
        for other in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(other, signal.SIG_IGN)
        if not self._postponing:
            raise SystemExit(128 + number)
        self._asked = number

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """The signal's exception comes at the end. Handlers run in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._postponing = True
        try:
            yield
        finally:
            self._postponing = False
            asked, self._asked = self._asked, 0
            if asked:
                raise SystemExit(128 + asked)


_interruption = _Interruption()
