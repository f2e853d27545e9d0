# SPDX-License-Identifier: GPL-2.0-or-later
"""The supervisor with a real mariadbd: signals, crashes, requests, and no process left behind, however it ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import supervise, supervisor
from slapos.recipe.erp5.mariadb import private_server, status, verdict
from slapos.recipe.erp5.mariadb.config import Config, Database
from slapos.recipe.erp5.supervisor import RUNNING, STOPPED, WAITING, Supervised
from tests.service import servers
from tests.service.servers import PATIENCE, Service, wait_for

MEMORY = 16 << 10
"""KiB of resident memory that it must not exceed; it was about 10 MiB in November 2026 (Python 3.11)."""
PROGRAM = servers.ROOT / "slapos" / "recipe" / "erp5" / "supervise.py"
ZONES = "step: load the time zones"
# Moments of a start at which the supervisor dies; the log has these words by then.
MOMENTS = (
    "step: initialise",
    "step: start a private server, and make the administration account",
    "step: create the databases and users",
    ZONES,
    "step: serve",
)


class Supervision:
    """A command under its supervisor, started as the node does: at the head of a process group, with a log."""

    def __init__(self, config: Config, *command: str | Path) -> None:
        self.config, self.service = config, config.service
        self.command = command or (config.path("bin", "mariadb-service"),)
        self.log_file = config.path("var", "log", "supervised.log")
        self.groups: set[int] = set()
        self.process: subprocess.Popen | None = None

    def start(self) -> subprocess.Popen:
        words = [sys.executable, "-I", "-S", "-B", PROGRAM, "--name", "mariadb", "--run", self.service.run, "--"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*words, *self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def look(self) -> Supervised | None:
        """How it stands, None without a supervisor; the groups that are seen are remembered."""
        found = supervisor.status(self.service)
        if found and found.child_pid:
            self.groups.add(found.child_pid)
        return found

    def status(self) -> Supervised:
        found = self.look()
        assert found, "no supervisor runs"
        return found

    def running(self) -> Supervised:
        """How it stands, once a child runs."""
        found: list[Supervised] = []

        def runs() -> bool:
            now = self.look()
            found[:] = [now] if now and now.state == RUNNING else []
            return bool(found)

        wait_for(runs, "a running child")
        return found[0]

    def answers(self) -> bool:
        return private_server.answers(self.config.socket)

    def run(self) -> Supervised:
        self.start()
        wait_for(self.answers, f"an answer; the log: {self.log()}")
        return self.running()

    def left(self) -> list[int]:
        """What still runs of the command's process groups, whoever its parent is."""
        return [pid for group in self.groups for pid in supervise.members(group)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """A signal for its process group, and its exit code; nothing of the command may be left."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        code = self.process.wait(PATIENCE)
        wait_for(lambda: not self.left(), "the end of all processes")
        return code


@pytest.fixture
def small(partition: Path) -> Iterator[Supervision]:
    """A supervised mariadbd with few things to create."""
    config = servers.make_config(
        partition, databases=(Database("erp5", "user", servers.NASTY_PASSWORD),), test_databases=()
    )
    made = Supervision(config)
    yield made
    finish(made)


@pytest.fixture
def ready(complete: Service) -> Iterator[Supervision]:
    """A supervised mariadbd with a database already."""
    made = Supervision(complete.config)
    yield made
    finish(made)


@pytest.fixture
def other(config: Config) -> Iterator[list[Supervision]]:
    """Supervisions of other commands, ended afterwards."""
    made: list[Supervision] = []
    yield made
    for one in made:
        finish(one)


def finish(made: Supervision) -> None:
    if made.process is None:
        return
    made.look()
    if made.process.poll() is None:
        try:
            made.end()
        except (AssertionError, subprocess.TimeoutExpired):
            made.process.kill()
    for pid in made.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def script(config: Config, text: str) -> Path:
    path = config.path("bin", "command")
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


def lines(made: Supervision) -> list[str]:
    """The supervisor's own lines, without time and name."""
    mark = " supervisor of mariadb: "
    return [line.partition(mark)[2] for line in made.log().splitlines() if mark in line]


# ---- a real server


def test_it_serves_and_a_stop_of_the_group_stops_all(ready):
    found = ready.run()
    assert (found.state, found.ends) == (RUNNING, ())
    assert Path("/proc", str(found.child_pid), "comm").read_text() == "mariadbd\n"
    assert os.getpgid(found.child_pid) == found.child_pid != ready.process.pid
    assert ready.end() == 0
    assert not ready.answers()
    assert "Shutdown complete" in ready.config.error_log.read_text()
    assert lines(ready) == ["ended with status 0, as asked"]
    assert supervisor.status(ready.service) is None


def test_it_takes_little_memory(ready):
    ready.run()
    for _ in range(3):
        supervisor.restart(ready.service)
    wait_for(ready.answers, "an answer")
    text = Path("/proc", str(ready.process.pid), "smaps_rollup").read_text()
    values = {line.partition(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    print(f"supervisor: {values['Rss']} KiB resident, {values['Private_Dirty']} KiB its own")
    assert int(values["Rss"]) < MEMORY


def test_a_killed_server_is_back_soon_and_counted(ready):
    before = ready.run()
    servers.query(ready.config, "CREATE TABLE erp5.t (a INT PRIMARY KEY)")
    servers.query(ready.config, "INSERT INTO erp5.t VALUES (7)")
    began = time.monotonic()
    os.kill(before.child_pid, signal.SIGKILL)
    wait_for(lambda: ready.status().ends, "the end")
    wait_for(lambda: ready.running().child_pid != before.child_pid and ready.answers(), "an answer")
    assert time.monotonic() - began > supervise.pause(1) - 0.1
    assert servers.query(ready.config, "SELECT a FROM erp5.t") == [(7,)]
    (end,) = ready.status().ends
    assert end.how == "was killed by SIGKILL"
    assert lines(ready)[0].startswith("was killed by SIGKILL after ")
    assert lines(ready)[0].endswith(" s, which nobody asked for; it starts again in 1 s")
    # Known to the next supervisor too, as processing may start one at any time.
    ready.end()
    ready.run()
    assert ready.status().ends == (end,)


def test_a_restart_gives_the_server_what_on_start_decides_then(ready):
    before = ready.run()
    options = ready.config.path("var", "next.options")
    context = servers.service_context(ready.config)
    servers.write_script(
        ready.config.path("bin", "mariadb-service"),
        context | {"on_start": f"{context['on_start']}\ncp {options} {ready.config.server_options}"},
    )
    options.write_text("--skip-networking\n")
    supervisor.restart(ready.service)
    wait_for(ready.answers, "an answer")
    assert ready.running().child_pid != before.child_pid
    assert servers.query(ready.config, "SELECT @@skip_networking") == [(1,)]
    options.write_text("--max-connections=77\n")
    supervisor.restart(ready.service)
    wait_for(ready.answers, "an answer")
    assert servers.query(ready.config, "SELECT @@skip_networking, @@max_connections") == [(0, 77)]
    assert ready.status().ends == ()


def test_stopped_it_stays_so_until_it_is_started(ready):
    ready.run()
    supervisor.stop(ready.service)
    assert (ready.status().state, ready.status().child_pid) == (STOPPED, 0)
    assert ready.left() == []
    supervisor.restart(ready.service)
    assert ready.status().state == STOPPED
    supervisor.start(ready.service)
    wait_for(ready.answers, "an answer")
    assert ready.status().ends == ()


def test_when_who_stopped_it_dies_it_is_started_again(ready):
    ready.run()
    text = (
        "import os, signal, sys; from pathlib import Path; from slapos.recipe.erp5 import supervisor;"
        "service = supervisor.Service(Path(sys.argv[1]), 'mariadb'); supervisor.stop(service);"
        "assert supervisor.status(service).state == supervisor.STOPPED; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", text, ready.service.run], check=False)
    assert done.returncode == -signal.SIGKILL
    wait_for(ready.answers, "an answer")
    assert lines(ready)[-1].endswith(" stopped it and has ended without starting it again: start")


def test_a_creation_that_fails_is_tried_again_by_itself_and_its_promise_tells(small):
    go, context = small.config.path("go"), servers.service_context(small.config)
    failing = f"[ -e {go} ] || {{ echo 'error: no room' >&2; exit 1; }}\n{context['on_creation']}"
    servers.write_script(small.config.path("bin", "mariadb-service"), context | {"on_creation": failing})
    small.log_file = small.config.path(f".slappart0_mariadb-{'0' * 32}.log")
    small.start()
    wait_for(lambda: small.log_file.exists() and "it starts again in 4 s" in small.log(), "the third failure")
    pauses: list[status.ServerStatus] = []

    def pausing() -> bool:  # and not at the next attempt already
        pauses[:] = [status.server(small.config)]
        return pauses[0].supervised is not None and pauses[0].supervised.state == WAITING

    wait_for(pausing, "a pause")
    (found,) = pauses
    (sentence,) = verdict.server(found).sentences
    assert sentence == (
        "the creation of the database has failed (on_creation ended with status 1: its reason is above), expected a"
        " database that answers: remove that cause; the creation begins again by itself at"
        f" {found.supervised.next_start}"
    )
    go.touch()
    wait_for(lambda: small.config.data_directory.exists() and small.answers(), "the database")
    assert not verdict.server(status.server(small.config)).good


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_supervisor_leaves_nothing_behind(small, moment):
    if moment == ZONES:
        servers.use_all_time_zones(small.config)
    small.start()
    small.running()
    wait_for(lambda: moment in small.log(), moment)
    small.status()
    small.process.kill()
    small.process.wait(PATIENCE)
    wait_for(lambda: not small.left(), "the end of all processes")
    assert processes_of(small.config) == []
    small.run()
    assert ("erp5",) in servers.query(small.config, "SHOW DATABASES")


@pytest.mark.parametrize("moment", MOMENTS[:-1])
def test_stopped_at_any_moment_it_leaves_nothing_behind(small, moment):
    if moment == ZONES:
        servers.use_all_time_zones(small.config)
    small.start()
    small.running()
    wait_for(lambda: moment in small.log(), moment)
    small.status()
    assert small.end() == 0
    assert processes_of(small.config) == []


def processes_of(config: Config) -> list[str]:
    """Command lines that name the partition: also of processes that left the group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode()
            if f"{config.partition}/" in words and str(os.getpid()) != path.parent.name:
                found.append(words)
    return found


# ---- other commands


def test_a_failing_command_is_started_again_and_again_with_growing_pauses(config, other):
    other.append(made := Supervision(config, script(config, "echo run >&2; exit 3")))
    made.start()
    wait_for(lambda: len(lines(made)) >= 3, "three failures")
    expected = "ended with status 3 after [0-9]+ s, which nobody asked for; it starts again in {} s"
    for line, seconds in zip(lines(made), (1, 2, 4), strict=False):
        assert re.fullmatch(expected.format(seconds), line)
    wait_for(lambda: made.status().state == WAITING, "a pause")
    found = made.status()
    assert {end.how for end in found.ends} == {"ended with status 3"}
    supervisor.restart(made.service)  # does not wait for the pause
    wait_for(lambda: len(made.status().ends) > len(found.ends), "one more failure")


def test_a_command_that_is_not_there_is_a_failure(config, other):
    other.append(made := Supervision(config, config.path("bin", "none")))
    made.start()
    wait_for(lambda: made.log_file.exists() and "starts again" in made.log(), "a failure")
    assert made.status().ends[0].how == "ended with status 127"


def test_what_a_dead_command_has_left_in_its_group_ends_before_it_starts_again(config, other):
    other.append(made := Supervision(config, script(config, "sleep 1000 &\nsleep 1000 &\nwait")))
    made.start()
    before = made.running()
    wait_for(lambda: len(made.left()) == 3, "its children")
    os.kill(before.child_pid, signal.SIGKILL)
    wait_for(lambda: made.running().child_pid != before.child_pid, "the next one")
    assert supervise.members(before.child_pid) == []


def test_sighup_is_passed_on_and_ends_nothing(config, other):
    other.append(
        made := Supervision(
            config, script(config, "trap 'echo hup >&2' HUP\necho up >&2\nwhile :; do sleep 0.05; done")
        )
    )
    process = made.start()
    wait_for(lambda: "up\n" in made.log(), "the command")
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "hup\n" in made.log(), "SIGHUP")
    assert made.status().ends == ()


def test_a_command_that_ignores_sigterm_is_killed(config, other):
    """With another patience, as a test need not wait for 50 s."""
    text = PROGRAM.read_text().replace("PATIENCE = 50\n", "PATIENCE = 1\n")
    program = config.path("bin", "impatient.py")
    program.write_text(text)
    stubborn = script(config, "trap '' TERM\necho up >&2\nwhile :; do sleep 0.05; done")
    other.append(made := Supervision(config, stubborn))
    words = [sys.executable, "-I", "-S", "-B", program, "--name", "mariadb", "--run", made.service.run, "--", stubborn]
    with made.log_file.open("ab") as log:
        made.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    made.running()
    wait_for(lambda: "up\n" in made.log(), "the command")
    assert made.end() == 0
    assert lines(made) == [
        "has not ended 1 s after SIGTERM: SIGKILL",
        "was killed by SIGKILL, as asked",
    ]


def test_the_command_inherits_no_file_nor_signal_of_ours(config, other):
    other.append(made := Supervision(config, "/bin/sleep", "1000"))
    made.start()
    child = Path("/proc", str(made.running().child_pid))
    wait_for(lambda: (child / "comm").read_text() == "sleep\n", "the command itself")
    assert sorted(path.name for path in (child / "fd").iterdir()) == ["0", "1", "2"]
    signals = [
        line.split()[1] for line in (child / "status").read_text().splitlines() if line[:6] in ("SigBlk", "SigIgn")
    ]
    assert [int(mask, 16) for mask in signals] == [0, 0]


def test_a_second_supervisor_of_the_same_name_refuses(config, other):
    other.append(made := Supervision(config, "/bin/sleep", "1000"))
    made.start()
    first = made.running()
    second = Supervision(config, "/bin/sleep", "1000")
    assert second.start().wait(PATIENCE) == 1
    assert made.log().splitlines()[-1].partition("error: ")[2] == (
        f"{made.service.fifo} is another supervisor's, expected nobody to have it: end that one"
    )
    assert made.status().child_pid == first.child_pid


def test_what_is_no_request_is_ignored(config, other):
    other.append(made := Supervision(config, "/bin/sleep", "1000"))
    made.start()
    first = made.running()
    for request in ("reload", "x" * 9000, "stop me now please", ""):
        supervisor.ask(made.service, request)
    supervisor.start(made.service)  # waits for its own answer, and so for those before it
    assert made.status().child_pid == first.child_pid
    assert lines(made)[0] == "a request that is none of restart, stop, start was ignored"
    assert (made.service.fifo.stat().st_mode & 0o777, made.service.state.stat().st_mode & 0o777) == (0o600, 0o600)


def test_wrong_arguments_are_told(tmp_path):
    for arguments in ((), ("--help",), ("--name", "x", "--run", str(tmp_path), "--")):
        done = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == (
            "usage: supervise.py --name NAME --run FOLDER -- /PATH/OF/COMMAND [ARGUMENT...]\n"
            "Write restart, stop or start into FOLDER/NAME.supervise.\n"
        )
