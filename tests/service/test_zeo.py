# SPDX-License-Identifier: GPL-2.0-or-later
"""A ZEO server, its backups by repozo and their restoration, on the release's own ZEO; also when they are killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5 import supervisor, times
from slapos.recipe.erp5.zeo import backup as backups
from slapos.recipe.erp5.zeo import repository, status, verdict
from slapos.recipe.erp5.zeo.config import Config
from slapos.recipe.erp5.zeo.repository import Chain
from tests.service.servers import PATIENCE, part, wait_for
from tests.service.zeo_fixtures import Server, backup, client, make_config, program, running


@pytest.fixture
def server(partition: Path) -> Iterator[Server]:
    """One with two databases, which answers."""
    with running(make_config(partition, "root", "other")) as server:
        yield server


@pytest.fixture
def config(server: Server) -> Config:
    return server.config


def chains(config: Config, storage: str = "root") -> tuple[Chain, ...]:
    return repository.chains(config.backups(storage))


def shape(config: Config) -> list[list[str]]:
    """The files of each chain by their kinds."""
    return [[piece.path.suffix for piece in chain.pieces] for chain in chains(config)]


def restore(server: Server, *words: str) -> str:
    """Restore with the server stopped; what the program says."""
    supervisor.stop(server.config.service)
    finished = program(server.config, "zeo-restore", "--replace", *words)
    supervisor.start(server.config.service)
    wait_for(lambda: not status.silence(server.config.host, server.config.port), "the server")
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


# ---- the server


def test_objects_survive_a_server_that_is_killed(server: Server, config: Config):
    assert client(config, "write", "a", "1") == "a=1"
    server.kill()
    assert client(config, "read") == "a=1"
    assert client(config, "read", storage="other") == ""
    judged = verdict.server(status.server(config, times.now()))
    assert not judged.good and "the service zeo was killed by SIGKILL" in judged.sentences[0]


def test_the_log_is_in_the_partition_and_greeting_leaves_no_trace_of_an_error_in_it(server: Server, config: Config):
    log = config.path("var/log/zeo.log")
    wait_for(lambda: log.exists() and "listening on" in log.read_text(), "the server's log")
    assert status.silence(config.host, config.port) == ""
    client(config, "read")
    assert "Traceback" not in log.read_text() and "ERROR" not in log.read_text()


def test_well(config: Config):
    judged = verdict.server(status.server(config, times.now()))
    assert judged.good
    assert re.fullmatch(
        rf"ZEO answers at 127\.0\.0\.1:{config.port} and serves root \(\d+ bytes\), other \(\d+ bytes\)",
        judged.sentences[0],
    )


def test_a_database_that_is_gone_is_not_made_again(server: Server, config: Config):
    client(config, "write", "a", "1")
    backup(config)
    supervisor.stop(config.service)
    config.database("root").unlink()
    supervisor.ask(config.service, "start")
    missing = f"{config.database('root')} is not there, expected the database that was made once"
    wait_for(lambda: missing in server.log(), "the refusal")
    assert not config.database("root").exists()
    judged = verdict.server(status.server(config, times.now()))
    assert not judged.good and judged.sentences[0].startswith(missing)
    supervisor.stop(config.service)
    assert program(config, "zeo-restore").returncode == 0
    supervisor.start(config.service)
    assert client(config, "read") == "a=1"


def test_the_same_on_ipv6(partition: Path):
    with running(make_config(partition, host="::1")) as server:
        assert client(server.config, "write", "a", "1") == "a=1"
        assert verdict.server(status.server(server.config, times.now())).good


# ---- backups


def test_backups_one_after_the_other_are_all_restored(server: Server, config: Config):
    """Also within one second, which is what repozo cannot do by itself."""
    for number in range(3):
        client(config, "write", f"a{number}", str(number))
        backup(config)
    assert shape(config) == [[".fsz", ".deltafsz", ".deltafsz"]]
    present = config.database("root").read_bytes()
    restore(server)
    assert config.database("root").read_bytes()[: len(present)] == present
    assert client(config, "read") == "a0=0 a1=1 a2=2"
    (aside,) = config.database("root").parent.glob("root.fs.before-restore-*")
    assert aside.read_bytes() == present


def test_nothing_new_makes_no_file_and_counts_as_a_backup(config: Config):
    client(config, "write", "a", "1")
    backup(config)
    first = repository.last(config.backups("root"))
    assert "root: nothing is new since the last backup" in backup(config)
    assert shape(config) == [[".fsz"]]
    assert first and (second := repository.last(config.backups("root"))) and second.at >= first.at
    said = verdict.backups(status.snapshot(config, times.now())).sentences
    assert not [sentence for sentence in said if "missing" in sentence]


def test_an_earlier_moment(server: Server, config: Config):
    client(config, "write", "a", "1")
    backup(config)
    client(config, "write", "b", "2")
    backup(config)
    restore(server, "--at", times.text(chains(config)[0].pieces[0].at))
    assert client(config, "read") == "a=1"
    # What is written now is no continuation of what was backed up.
    client(config, "write", "c", "3")
    backup(config)
    assert shape(config) == [[".fsz", ".deltafsz"], [".fsz"]]
    restore(server)
    assert client(config, "read") == "a=1 c=3"


def test_a_pack_begins_a_chain_and_both_are_restored(server: Server, config: Config):
    for number in range(3):
        client(config, "write", "a", str(number))
    backup(config)
    client(config, "pack")
    backup(config)
    assert shape(config) == [[".fsz"], [".fsz"]]
    first, second = chains(config)
    assert second.end < first.end
    restore(server, "--from", str(first.folder))
    assert client(config, "read") == "a=2"
    restore(server)
    assert client(config, "read") == "a=2"


def test_the_files_are_a_repository_of_repozo_for_whoever_has_nothing_else(config: Config, partition: Path):
    client(config, "write", "a", "1")
    backup(config)
    client(config, "write", "b", "2")
    backup(config)
    (chain,) = chains(config)
    again = partition / "again.fs"
    words = [part("zope") + "/bin/repozo", "-R", "-w", "-r", chain.folder, "-o", again]
    assert subprocess.run(words, env={}).returncode == 0
    assert again.read_bytes() == config.database("root").read_bytes()


def test_a_damaged_file_is_noticed_and_a_full_backup_takes_over(server: Server, config: Config):
    client(config, "write", "a", "1")
    backup(config)
    (chain,) = chains(config)
    content = chain.pieces[0].path.read_bytes()
    chain.pieces[0].path.write_bytes(content[: len(content) // 2])
    judged = verdict.backups(status.snapshot(config, times.now()))
    assert f"{chain.pieces[0].path} is not as it was written" in " ".join(judged.sentences)
    finished = program(config, "zeo-restore", "--replace")
    assert finished.returncode == 1 and "open, expected it to be stopped" in finished.stdout
    assert f"{chain.pieces[0].path} is not as it was written: a full backup is made" in backup(config)
    assert shape(config) == [[".fsz"], [".fsz"]]
    # A bit in the middle is found when all is read.
    newest = chains(config)[-1].pieces[0].path
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    supervisor.stop(config.service)
    before = config.database("root").read_bytes()
    finished = program(config, "zeo-restore", "--replace")
    assert finished.returncode == 1 and f"cannot restore root from {chains(config)[-1].folder}" in finished.stdout
    assert config.database("root").read_bytes() == before
    assert not list(config.database("root").parent.glob("root.restore*"))
    supervisor.start(config.service)
    client(config, "write", "b", "2")
    assert "a full backup is made in its place" in backup(config)
    restore(server)
    assert client(config, "read") == "a=1 b=2"


def test_one_at_a_time(config: Config):
    with backups.alone(config):
        finished = program(config, "zeo-backup-now")
        assert (finished.returncode, "is running: wait for its end" in finished.stdout) == (75, True)
        finished = program(config, "zeo-restore", "--replace")
        assert (finished.returncode, "nothing was restored, another backup of" in finished.stdout) == (1, True)


def test_a_restore_is_refused_while_the_server_runs_and_without_replace(config: Config):
    client(config, "write", "a", "1")
    backup(config)
    finished = program(config, "zeo-restore", "--replace")
    assert finished.returncode == 1
    assert f"write stop into {config.service.fifo}, restore, and write start into it" in finished.stdout
    finished = program(config, "zeo-restore")
    assert finished.returncode == 1 and "add --replace, which keeps it under another name" in finished.stdout
    finished = program(config, "zeo-restore", "--storage", "none")
    assert finished.returncode == 1 and "there is no storage none, expected one of root, other" in finished.stdout
    assert client(config, "read") == "a=1"


# ---- backups that are killed, or find no room


def put_repozo(config: Config, script: str) -> None:
    """Put a program in the place of repozo; $REPOZO is the real one."""
    fake = config.path("zope/bin")
    fake.mkdir(parents=True)
    for name in ("python", "runzeo"):
        (fake / name).symlink_to(f"{part('zope')}/bin/{name}")
    (fake / "repozo").write_text(f"#!/bin/sh\nREPOZO={part('zope')}/bin/repozo\n{script}\n")
    (fake / "repozo").chmod(0o700)
    path = config.path("etc/zeo.json")
    path.write_text(path.read_text().replace(part("zope"), str(fake.parent)))


def files(folder: Path) -> dict[str, bytes]:
    """All files of the chains in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


IN_ITS_FOLDER = '$REPOZO "$@" || exit\ncd "$4"\n'
ENDS = {
    "killed when repozo is done": IN_ITS_FOLDER + "kill -9 $PPID",
    "killed before repozo has its record": IN_ITS_FOLDER + "rm *.dat; kill -9 $PPID",
    "killed while repozo writes": 'cd "$4"; head -c 100 /dev/zero >tmp.tmp; kill -9 $PPID',
    "another content than on record": IN_ITS_FOLDER + "for f in *fsz; do [ -L $f ] || echo x >$f; done",
    "failed at the end": IN_ITS_FOLDER + "exit 1",
    "no room": 'ulimit -f 100; exec $REPOZO "$@"',
}


@pytest.mark.parametrize("full", [False, True], ids=["addition", "full"])
@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_backup_leaves_the_earlier_ones_as_they_were(server: Server, config: Config, full: bool, end: str):
    client(config, "write", "a", "1")
    backup(config)
    before = files(config.backups("root"))
    client(config, "write", "b", os.urandom(1 << 17).hex())
    real = config.path("etc/zeo.json").read_text()
    put_repozo(config, ENDS[end])
    finished = program(config, "zeo-backup-now", *(["--full"] if full else []))
    assert finished.returncode != 0, finished.stdout
    assert files(config.backups("root")) == before
    config.path("etc/zeo.json").write_text(real)
    restore(server)
    assert client(config, "read") == "a=1"
    client(config, "write", "c", "3")
    backup(config)
    assert not repository.partial(config.backups("root")).exists()
    restore(server)
    assert client(config, "read") == "a=1 c=3"


DIES = """
import os, signal, sys
left, config, full = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "full"
from slapos.recipe.erp5.zeo import backup
from slapos.recipe.erp5.zeo import config as configuration
CHANGES = ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR
def hook(event, arguments):
    global left
    if event in CHANGES or (event == "open" and arguments[2] & WRITES and arguments[0] != "/dev/null"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
given = configuration.load(config)
sys.addaudithook(hook)
backup.make_all(given, full)
"""


@pytest.mark.parametrize("full", ["addition", "full"])
def test_killed_at_any_moment_all_that_is_listed_is_whole(partition: Path, full: str):
    """Before each call that changes something on the disk, in turn, until a run gets through."""
    with running(make_config(partition)) as server:
        config = server.config
        client(config, "write", "a", "1")
        backup(config)
        for number in range(1, 100):
            client(config, "write", "b", f"{number}")
            words = [sys.executable, "-c", DIES, str(number), config.path("etc/zeo.json"), full]
            ended = subprocess.run(words, timeout=PATIENCE, capture_output=True)
            assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
            for piece in (piece for chain in chains(config) for piece in chain.pieces):
                repository.verify(piece)
            if ended.returncode == 0:
                break
        assert 15 < number < 99
        restore(server)
        assert client(config, "read") == f"a=1 b={number}"


def test_killed_at_any_moment_of_a_restore_there_is_a_whole_database(server: Server, config: Config):
    client(config, "write", "a", "1")
    backup(config)
    client(config, "write", "b", "2")
    program_text = DIES.replace("zeo import backup", "zeo import restore").replace(
        "backup.make_all(given, full)", 'restore.restore(given, "root", None, None, True)'
    )
    number, code, found = 0, -signal.SIGKILL, set()
    while code:
        number += 1
        supervisor.stop(config.service)
        words = [sys.executable, "-c", program_text, str(number), config.path("etc/zeo.json"), ""]
        code = subprocess.run(words, timeout=PATIENCE, capture_output=True).returncode
        assert code in (0, -signal.SIGKILL)
        supervisor.start(config.service)
        found.add(client(config, "read"))
    assert found == {"a=1 b=2", "a=1"} and number > 5


def test_a_pack_in_the_middle_of_a_backup(config: Config):
    """Repozo then has the length of one file and the bytes of another one: that is thrown away."""
    for number in range(20):
        client(config, "write", "a", str(number) * 1000)
    script = f"""if [ ! -e {config.path("packed")} ]; then
      touch {config.path("packed")}
      cp {config.database("root")} {config.path("copy")} && mv {config.path("copy")} {config.database("root")}
    fi
    exec $REPOZO "$@" """
    put_repozo(config, script)
    said = backup(config)
    assert f"{config.database('root')} was packed meanwhile: begin anew" in said
    assert shape(config) == [[".fsz"]]


# ---- logs


def test_the_logs_of_nginx_are_rotated(config: Config):
    config.path("var/log/nginx-access.log").write_text("a line\n")
    finished = program(config, "zeo-rotate-logs")
    assert finished.returncode == 0, finished.stdout
    (rotated,) = config.path("var/log").glob("nginx-access.log-*")
    assert rotated.read_text() == "a line\n"


def test_the_server_rotates_its_own_log(config: Config, server: Server):
    """At its start too, where it is large already."""
    log = config.path("var/log/zeo.log")
    supervisor.stop(config.service)
    with log.open("ab") as file:
        file.truncate(17 << 20)
    supervisor.start(config.service)
    wait_for(lambda: log.with_name("zeo.log.1").exists(), "a rotated log")
    assert log.stat().st_size < 1 << 20
