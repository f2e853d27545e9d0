# SPDX-License-Identifier: GPL-2.0-or-later
"""The shared pieces that run commands, replace files and hold locks: with short commands, and no server."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Busy, CommandError, ServerError


def sh(script: str, **options) -> subprocess.CompletedProcess[bytes]:
    return process.run(["/bin/sh", "-c", script], "try it", **options)


def poll(condition, patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- commands


def test_output_and_input():
    done = sh("cat; echo error >&2", stdin=b"secret")
    assert (done.stdout, done.stderr, done.returncode) == (b"secret", b"error\n", 0)


def test_a_failure_says_what_was_attempted_and_the_last_words():
    with pytest.raises(CommandError) as raised:
        sh("echo not this; echo 'it  broke' >&2; echo 'at last' >&2; exit 3")
    assert str(raised.value) == "cannot try it: sh ended with status 3: it broke at last"


@pytest.mark.parametrize(
    "script, words",
    [
        ("echo out; exit 1", "sh ended with status 1: out"),
        ("exit 1", "sh ended with status 1: it said nothing"),
        ("kill -KILL $$", "sh was killed by SIGKILL: it said nothing"),
        ("printf '\\377' >&2; exit 1", "sh ended with status 1: \ufffd"),
    ],
)
def test_other_failures(script, words):
    with pytest.raises(CommandError) as raised:
        sh(script)
    assert str(raised.value) == f"cannot try it: {words}"


def test_last_words_are_the_last_ones():
    words = process.last_words(b"first " + b"x" * 2000 + b" last")
    assert words.startswith("...x")
    assert words.endswith(" last")
    assert len(words) == process.LAST_WORDS + 3


def test_accepted_exit_codes():
    assert sh("exit 1", accept=(0, 1)).returncode == 1


def test_a_command_that_is_too_slow_is_killed(tmp_path):
    with pytest.raises(CommandError) as raised:
        sh(f"echo $$ >{tmp_path}/pid; exec sleep 1000", timeout=0.5)
    assert str(raised.value) == "cannot try it: /bin/sh did not end within 0.5 s"
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_command_that_does_not_exist():
    with pytest.raises(CommandError, match="^/none/such cannot be started: .*No such file"):
        process.run(["/none/such"], "try it")


def test_the_environment_is_small(monkeypatch):
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    lines = sh("env", env={"EXTRA": "1"}).stdout.decode().split()
    names = {line.partition("=")[0] for line in lines}
    assert {"LC_ALL=C.UTF-8", "EXTRA=1", "TZ=Asia/Tokyo"} <= set(lines)
    ours = {"LC_ALL", "PYTHONDONTWRITEBYTECODE", "EXTRA"}
    assert names <= {"PATH", "HOME", "TMPDIR", "TZ", *ours, "PWD", "SHLVL", "_", "OLDPWD"}


def test_a_command_gets_none_of_our_open_files(tmp_path):
    with process.lock(tmp_path / "lock", "busy"):
        assert b"lock" not in sh("ls -l /proc/self/fd").stdout


PARENT = """
import sys, time
from slapos.recipe.erp5 import process
child = process.start([sys.executable, "-c", "import time; time.sleep(1000)"])
print(child.pid, flush=True)
time.sleep(1000)
"""


def test_a_child_dies_with_a_killed_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip(), "stat")
        assert child.exists()
        parent.kill()
    poll(lambda: not child.exists() or ") Z " in child.read_text())


# ---- files


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    process.write_atomically(path, "né")
    assert path.read_bytes() == "né".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    process.write_atomically(path, b"\xff", 0o640)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"\xff", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        process.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_need_not_survive_a_power_cut_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", None)  # a call would be a TypeError
    process.write_atomically(path, "new", durable=False)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


# ---- locks


def test_a_lock_is_held_by_one(tmp_path):
    path = tmp_path / "lock"
    with process.lock(path, "first"):
        with pytest.raises(Busy, match="^a dump is running$"), process.lock(path, "a dump is running"):
            pass
        assert path.stat().st_mode & 0o777 == 0o600
    with process.lock(path, "again"):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path):
    program = "from slapos.recipe.erp5 import process\nimport sys, time\nwith process.lock(sys.argv[1], 'x'):\n"
    program += "    print('held', flush=True)\n    time.sleep(1000)\n"
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy), process.lock(path, "busy"):
            pass
        holder.kill()
    with process.lock(path, "busy"):
        pass


# ---- programs


@pytest.fixture
def handlers():
    """Signal handlers as they were."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_exit_codes(handlers, capsys):
    assert process.program(lambda: None) == 0
    assert process.program(lambda: 7) == 7

    def fail() -> None:
        raise ServerError("it is not there: start it")

    assert process.program(fail) == 1
    date, clock, line = capsys.readouterr().err.strip().split(" ", 2)
    assert line == "error: it is not there: start it"


def said(capsys) -> list[str]:
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def test_a_refusal_of_the_system_is_one_sentence(handlers, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/somewhere/mariadb-on-start"])
    assert process.program(lambda: (tmp_path / "none" / "folder").mkdir()) == 1
    path = f"{tmp_path}/none/folder"
    assert said(capsys) == [f"error: cannot complete mariadb-on-start: {path}: No such file or directory"]


def test_a_refusal_of_the_system_says_what_was_attempted(handlers, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["mariadb-on-start"])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def body() -> None:
        with process.step("prepare the start"):
            process.write_atomically(tmp_path / "file", "x")

    monkeypatch.setattr(os, "fsync", full)
    assert process.program(body) == 1
    assert said(capsys) == [
        "step: prepare the start",
        f"error: cannot complete mariadb-on-start: cannot prepare the start: cannot write {tmp_path}/file:"
        " No space left on device: free disk space",
    ]


def test_a_refusal_without_words_is_named():
    assert process.describe(OSError()) == "OSError"
    assert process.describe(TimeoutError("too slow")) == "too slow"


def test_what_nobody_foresaw_is_named_without_its_words(tmp_path):
    try:
        process.write_atomically(tmp_path / "x", "\ud800secret")
    except UnicodeError as error:
        assert re.fullmatch(
            r"unexpected UnicodeEncodeError at process.py:\d+, expected none: report it", process.describe(error)
        )
    else:
        pytest.fail("it was written")


def test_a_reason_is_one_line():
    assert process.reason(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert process.reason(ValueError("two\n  lines")) == "two lines"
    assert process.reason(EOFError()) == "EOFError"


def test_a_log_that_cannot_be_written_stops_nothing():
    program = "from slapos.recipe.erp5 import process\nprocess.log('x')\nprint('it goes on')"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=True)
    assert done.stdout == b"it goes on\n"


def test_what_is_not_ours_is_not_hidden(handlers):
    with pytest.raises(ZeroDivisionError):
        process.program(lambda: 1 // 0)


def test_sigterm_cleans_up_once(handlers):
    cleaned = []

    def body() -> None:
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            poll(lambda: False)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # as when the whole process group gets one: it must not interrupt this
            cleaned.append(True)

    with pytest.raises(SystemExit) as raised:
        process.program(body)
    assert (raised.value.code, cleaned) == (143, [True])


def test_sigterm_while_a_command_is_being_started_is_not_lost():
    program = """
import os, signal
from slapos.recipe.erp5 import process
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
def body():
    try:
        process.run(["sleep", "60"], "sleep")
    finally:
        os.register_at_fork(before=lambda: print("cleaned up", flush=True))
        os.fork() or os._exit(0)
raise SystemExit(process.program(body))
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stdout) == (143, b"cleaned up\n")


def test_steps_are_logged_with_the_time_they_took(capsys, monkeypatch):
    clock = iter((100.0, 100.5, 200.0, 202.25))
    monkeypatch.setattr(process.time, "monotonic", lambda: next(clock))
    with process.step("quick"):
        pass
    with process.step("slow"):
        pass
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["step: quick", "step: slow", "step: slow: done in 2.2 s"]
