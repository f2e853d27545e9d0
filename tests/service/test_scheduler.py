# SPDX-License-Identifier: GPL-2.0-or-later
"""The control process with real servers: jobs run on time, schedules change under it, and no line of a log is lost."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest

from slapos.recipe.erp5 import nginx, times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.mariadb import logs, manifest, store
from tests.service.backup_fixtures import (
    DEADLINE,
    Partition,
    empty_data,
    new_partition,
    partition,
    server,
    wait_until,
)

__all__ = ["empty_data", "new_partition", "partition", "server"]

CONTROL = "mariadb.control"
BACKUP, LOGS, DIGEST = "logical-backup", "log-rotation", "slow-query-digest"


def job(partition: Partition, name: str) -> Job:
    return state.load(partition.config.scheduler_state).job(name)


def remember(partition: Partition, *jobs: Job) -> None:
    """Write the state that a scheduler would have left behind."""
    state.save(partition.config.scheduler_state, State(jobs=jobs))


def ago(**span: int) -> str:
    return times.text(times.now() - timedelta(**span))


def start(partition: Partition) -> subprocess.Popen:
    """The control process, its log in a file."""
    with open(partition.folder / "control.log", "a") as log:
        child = partition.python(CONTROL, stderr=log)
    wait_until(lambda: state.load(partition.config.scheduler_state).heartbeat, "the first heartbeat")
    return child


def said(partition: Partition) -> list[str]:
    return [line.split(" ", 2)[2] for line in (partition.folder / "control.log").read_text().splitlines()]


def stop(child: subprocess.Popen) -> None:
    child.terminate()
    assert child.wait(DEADLINE) == 0


# ---- backups


def test_a_new_partition_gets_its_first_backup_soon(server):
    child = start(server)
    wait_until(lambda: job(server, BACKUP).outcome == state.DONE, "the first backup")
    (entry,) = manifest.load(server.config.offered)
    done = job(server, BACKUP)
    assert done.last_success == done.last_start <= entry.start <= done.last_end
    assert done.message.startswith(f"backup {entry.name} made: ")
    assert (done.failures, done.next_run[-10:]) == (0, "T00:00:00Z")
    assert job(server, LOGS).outcome == "" and job(server, LOGS).next_run[-10:] == "T00:00:00Z"
    lines = [line for line in said(server) if line.startswith("logical-backup: ")]
    assert lines[0] == "logical-backup: begins"
    assert re.fullmatch(r"logical-backup: the backup takes about .*, .* are free", lines[1])
    assert lines[-1] == "logical-backup: done"
    stop(child)


def test_physical_backups_follow_the_dumps(new_partition, empty_data):
    both = new_partition(physical={"enable": True})
    both.start_server(empty_data)
    both.sql("CREATE DATABASE erp5")  # a backup wants a position
    child = start(both)
    wait_until(lambda: job(both, "physical-backup").outcome == state.DONE, "the first physical backup")
    assert {entry.kind for entry in manifest.load(both.config.offered)} == {"logical", "physical-full"}
    dump, copy = (job(both, name) for name in (BACKUP, "physical-backup"))
    assert dump.last_end <= copy.last_start
    assert copy.failures == dump.failures == 0
    assert "physical-backup: a full backup: there is no backup to build on" in said(both)
    stop(child)


def test_a_missed_backup_is_made_soon_and_a_fresh_one_is_not_repeated(server):
    assert server.run("mariadb.backup")[0] == 0
    child = start(server)
    remembered = job(server, BACKUP)
    assert (remembered.outcome, remembered.last_start) == ("", "")
    stop(child)
    path = server.config.dumps / "manifest.json"
    document = json.loads(path.read_text())
    document["backups"][0]["start"] = ago(days=2)
    path.write_text(json.dumps(document))
    start(server)
    wait_until(lambda: job(server, BACKUP).outcome == state.DONE, "the missed backup")
    assert len(manifest.load(server.config.dumps)) == 2


def test_a_changed_configuration_is_followed_without_a_restart(new_partition, empty_data):
    server = new_partition(enable=False)
    server.start_server(empty_data)
    child = start(server)
    mariadbd = server.server.pid
    assert job(server, BACKUP) == Job(BACKUP)
    server.write_configuration(enable=True, periodicity="17 3 * * *")
    child.send_signal(signal.SIGHUP)
    wait_until(lambda: job(server, BACKUP).outcome == state.DONE, "a backup after the change")
    assert job(server, BACKUP).next_run[-10:] == "T03:17:00Z"
    assert (child.poll(), server.server.poll(), server.server.pid) == (None, None, mariadbd)


def test_a_bad_change_is_reported_and_changes_nothing(server):
    child = start(server)
    wait_until(lambda: job(server, BACKUP).outcome == state.DONE, "the first backup")
    good = server.json.read_text()
    server.write_configuration(periodicity="61 * * * *")
    child.send_signal(signal.SIGHUP)
    problem = wait_until(lambda: state.load(server.config.scheduler_state).problem, "the problem in the state file")
    assert problem == (
        "backup.logical.periodicity is '61 * * * *', which is neither daily nor hourly nor a cron expression of five "
        "fields with a date that exists: give one such as '30 2 * * *' (at 02:30 UTC every day)"
    )
    assert said(server)[-1] == f"error: {problem}"
    assert job(server, BACKUP).next_run[-10:] == "T00:00:00Z"
    server.json.write_text(good)
    child.send_signal(signal.SIGHUP)
    wait_until(lambda: not state.load(server.config.scheduler_state).problem, "the end of the problem")
    assert child.poll() is None


def test_it_does_not_start_with_a_bad_configuration(partition):
    partition.write_configuration(periodicity="61 * * * *")
    code, lines = partition.run(CONTROL)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: backup.logical.periodicity is '61 * * * *', which is neither daily ")


def test_a_failed_backup_is_tried_again(server):
    server.stop_server()
    start(server)
    wait_until(lambda: job(server, BACKUP).outcome == state.FAILED, "the failure")
    failed = job(server, BACKUP)
    assert failed.message.startswith("no backup was made, cannot dump the databases: ")
    assert failed.failures == 1 and failed.last_end < failed.retry
    server.start_server()
    wait_until(lambda: job(server, BACKUP).outcome == state.DONE, "the second try")
    assert job(server, BACKUP).failures == 0


def test_busy_is_no_failure(server):
    with store.lock(server.config):
        start(server)
        wait_until(lambda: job(server, BACKUP).outcome == state.BUSY, "the outcome")
    found = job(server, BACKUP)
    assert (found.failures, found.message[:34]) == (0, "another backup of test is running:")
    assert found.last_end < found.retry


@pytest.fixture
def stuck(server):
    """A server on which every dump stops at a locked table."""
    server.sql("CREATE DATABASE erp5", "CREATE TABLE erp5.t (i INT)")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES erp5.t WRITE")
        yield server


def family(child: subprocess.Popen) -> list[psutil.Process]:
    """The job's process and mariadb-dump, once both are there, and no other job's."""

    def both() -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):  # one that ends meanwhile
            found = psutil.Process(child.pid).children(recursive=True)
            dumps = [process for process in found if "mariadb-dump" in " ".join(process.cmdline())]
            return found if len(found) == 2 and dumps else []
        return []

    return wait_until(both, "a dump")


def test_it_goes_on_beating_while_a_job_runs_and_stops_with_it(stuck):
    child = start(stuck)
    running = family(child)
    assert job(stuck, BACKUP).outcome == state.RUNNING
    first = state.load(stuck.config.scheduler_state).heartbeat
    stuck.write_configuration(periodicity="17 3 * * *")  # and no signal: it looks by itself
    wait_until(lambda: state.load(stuck.config.scheduler_state).heartbeat > first, "a second heartbeat")
    wait_until(lambda: job(stuck, BACKUP).next_run[-10:] == "T03:17:00Z", "the new schedule")
    assert [process.pid for process in family(child)] == [process.pid for process in running]
    stop(child)
    wait_until(lambda: not [process for process in running if process.is_running()], "the end of the dump")
    assert (job(stuck, BACKUP).outcome, job(stuck, BACKUP).message) == ("failed", "cut short, as the scheduler ended")
    assert sorted(os.listdir(stuck.config.path("srv", "backup"))) == ["mariadb-full", "offered"]


def test_killed_it_leaves_no_process_and_its_successor_sets_all_right(stuck):
    child = start(stuck)
    running = family(child)
    child.kill()
    child.wait(DEADLINE)
    wait_until(lambda: not [process for process in running if process.is_running()], "the end of the dump")
    assert store.logical(stuck.config).partial.exists()
    stuck.write_configuration(enable=False)
    start(stuck)
    wait_until(lambda: not store.logical(stuck.config).partial.exists(), "the removal of the left-overs")
    wait_until(lambda: job(stuck, BACKUP).outcome != state.RUNNING, "the outcome")
    assert (job(stuck, BACKUP).outcome, job(stuck, BACKUP).message) == ("failed", "cut short, as the scheduler ended")


def test_before_the_first_backup_an_empty_list_is_offered(partition):
    start(partition)
    assert manifest.parse((partition.config.offered / "manifest.json").read_text(), "M") == ()


def test_it_takes_little_memory(partition):
    partition.write_configuration(enable=False)
    child = start(partition)
    bare = subprocess.run(
        [sys.executable, "-c", "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"],
        check=True,
        capture_output=True,
    )
    assert psutil.Process(child.pid).memory_info().rss - int(bare.stdout) * 1024 < 20 << 20


# ---- logs


def slow(server: Partition, number: int) -> None:
    """A slow query, until the server has logged it (the client has its answer before that)."""
    server.sql(f"SELECT SLEEP(0.3), 'query{number}'")
    wait_until(lambda: f"'query{number}'" in everything(server, "mariadb-slow.log"), "the line in the slow log")


def everything(server: Partition, name: str) -> str:
    """All that was ever written to a log, rotated or compressed."""
    folder, text = server.config.path("var", "log"), ""
    for path in sorted(folder.glob(f"{name}*")):
        if path.suffix == ".zst":
            zstd = f"{server.config.software.zstd}/bin/zstd"
            text += subprocess.run([zstd, "-dc", path], check=True, capture_output=True, text=True).stdout
        else:
            text += path.read_text()
    return text


def rotated(server: Partition, name: str) -> list[str]:
    return sorted(path.name for path in server.config.path("var", "log").glob(f"{name}-*"))


def report_of(server: Partition, name: str) -> str:
    """The text of the report on the rotated log `name`."""
    stamp = name.removeprefix("mariadb-slow.log-").removesuffix(".zst")
    path = server.config.path("srv", "slow-query-digest", f"slow-queries-{stamp}.txt")
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()


def test_logs_are_rotated_and_digested_when_their_time_has_come(server):
    slow(server, 1)
    long_ago = ago(days=2)
    remember(server, Job(LOGS, since=long_ago), Job(DIGEST, since=long_ago), Job(BACKUP, last_success=ago(seconds=1)))
    pid = server.server.pid
    child = start(server)
    wait_until(lambda: job(server, DIGEST).outcome not in ("", state.RUNNING), "the digest")
    assert (job(server, LOGS).outcome, job(server, DIGEST).outcome) == (state.DONE, state.DONE), said(server)
    assert job(server, LOGS).message == "logs rotated"
    (name,) = rotated(server, "mariadb-slow.log")
    report = name.replace("mariadb-slow.log-", "slow-queries-") + ".txt"
    assert job(server, DIGEST).message == f"slow-query reports made: {report}"
    assert "SELECT SLEEP(0.3), 'query1'" in report_of(server, name)
    assert "query1" in server.config.path("var", "log", name).read_text()
    slow(server, 2)
    assert "query2" in server.config.slow_log.read_text() and "query1" not in server.config.slow_log.read_text()
    assert len(rotated(server, "mariadb-error.log")) == 1 and server.config.error_log.exists()
    assert (server.server.poll(), server.server.pid, child.poll()) == (None, pid, None)


def wait_for_another_second() -> None:
    """A rotated file is named after the second in which it was rotated."""
    begun = times.text(times.now())
    wait_until(lambda: times.text(times.now()) != begun, "the next second")


def rotate(server: Partition) -> list[str]:
    wait_for_another_second()
    code, lines = server.run("mariadb.logs")
    assert code == 0, lines
    return lines


def test_no_line_is_lost_and_old_ones_are_compressed(server):
    position = server.sql("SELECT @@gtid_binlog_pos")
    for number in range(4):
        slow(server, number)
        rotate(server)
    slow(server, 4)
    names = rotated(server, "mariadb-slow.log")
    assert [name[-4:] == ".zst" for name in names] == [True, True, True, False]
    text = everything(server, "mariadb-slow.log")
    assert [text.count(f"'query{number}'") for number in range(5)] == [1] * 5
    assert server.sql("SELECT @@gtid_binlog_pos") == position


def test_a_log_that_the_server_has_not_opened_anew_is_neither_compressed_nor_rotated(server):
    slow(server, 1)
    logs.rotate(server.config)  # and no reopening: as if killed in between
    wait_for_another_second()
    logs.rotate(server.config)
    (name,) = rotated(server, "mariadb-slow.log")
    slow(server, 2)
    text = server.config.path("var", "log", name).read_text()
    assert "query1" in text and "query2" in text
    rotate(server)
    slow(server, 3)
    assert "query3" in server.config.slow_log.read_text()
    assert server.config.path("var", "log", name).exists()


def test_a_server_that_is_down_opens_its_logs_when_it_starts(server):
    slow(server, 1)
    server.stop_server()
    rotate(server)
    assert not server.config.slow_log.exists()
    server.start_server()
    slow(server, 2)
    assert "query2" in server.config.slow_log.read_text()


def test_a_socket_left_by_a_killed_server(server):
    server.server.kill()
    server.server.wait(DEADLINE)
    assert server.config.socket.exists()
    lines = rotate(server)
    assert lines[0].startswith("MariaDB opens its new logs when it starts: cannot connect to MariaDB: ")


def test_nginx_opens_new_logs(server):
    nginx = server.start_nginx()
    subprocess.run(["curl", "-s", f"http://127.0.0.1:{server.backup_port}/"], check=True, stdout=subprocess.DEVNULL)
    rotate(server)
    (name,) = rotated(server, "nginx-access.log")
    assert len(server.config.path("var", "log", name).read_text().splitlines()) == 1
    new = server.config.path("var", "log", "nginx-access.log")
    wait_until(new.exists, "nginx's new log")
    subprocess.run(["curl", "-s", f"http://127.0.0.1:{server.backup_port}/"], check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(new.read_text().splitlines()) == 1, "a line in the new log")
    assert nginx.poll() is None


def test_an_old_pid_file_hurts_nobody(server):
    bystander = server.spawn("sleep", "1000")
    server.config.nginx_pid.write_text(f"{bystander.pid}\n")
    rotate(server)
    assert bystander.poll() is None
    for content in ("", "x", "999999999"):
        server.config.nginx_pid.write_text(content)
        assert nginx.master(server.config.nginx_pid) is None


def test_a_second_rotation_at_once_is_busy(server):
    with logs.process.lock(server.config.path("var", "run", "rotate-logs.lock"), "x"):
        assert server.run("mariadb.logs") == (75, ["busy: the logs are being rotated by another run: nothing to do"])
    assert rotated(server, "mariadb-error.log") == []


def test_a_digest_that_fails_is_said_and_made_up_for(server):
    for number in (1, 2):
        slow(server, number)
        rotate(server)
    document = json.loads(server.json.read_text())
    document["software"]["percona-toolkit"] = "/none"
    server.json.write_text(json.dumps(document))
    assert server.run("mariadb.digest") == (
        1,
        [
            "error: /none/bin/pt-query-digest cannot be started: [Errno 2] No such file or directory: "
            "'/none/bin/pt-query-digest'"
        ],
    )
    server.write_configuration()
    assert server.run("mariadb.digest")[0] == 0
    older, newer = rotated(server, "mariadb-slow.log")
    assert older.endswith(".zst") and not newer.endswith(".zst")
    assert "query1" in report_of(server, older) and "query2" in report_of(server, newer)
    assert server.run("mariadb.digest") == (0, ["slow-query reports made: none"])


def test_a_broken_log_has_no_report(server):
    path = server.config.path("var", "log", "mariadb-slow.log-20261122-000000.zst")
    path.write_bytes(b"\x28\xb5\x2f\xfd broken")
    code, lines = server.run("mariadb.digest")
    assert code == 1
    assert lines[0].startswith(f"error: cannot sum up {path}: zstd ended with status 1: ")
    assert list(server.config.path("srv", "slow-query-digest").iterdir()) == []


def test_a_digest_program_that_dies_early(server):
    program = server.folder / "fake/bin/pt-query-digest"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no perl here >&2; exit 2\n")
    program.chmod(0o700)
    document = json.loads(server.json.read_text())
    document["software"]["percona-toolkit"] = str(program.parents[1])
    server.json.write_text(json.dumps(document))
    path = server.config.path("var", "log", "mariadb-slow.log-20261122-000000")
    path.write_bytes(b"x" * (4 << 20))  # more than a pipe holds
    code, lines = server.run("mariadb.digest")
    assert (code, lines) == (1, [f"error: cannot sum up {path}: pt-query-digest ended with status 2: no perl here"])
