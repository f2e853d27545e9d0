# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups and restorations of ZEO that are killed, find no room, or meet with a pack: what there was is kept."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slapos.recipe.erp5.zeo import repository
from slapos.recipe.erp5.zeo.config import Config
from slapos.recipe.erp5.zeo.repository import Chain
from tests.service.servers import PATIENCE, part
from tests.service.zeo_fixtures import Server, backup, chains, client, config, program, restore, server, shape

__all__ = ["config", "server"]


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
    "no room": 'ulimit -f 40; exec $REPOZO "$@"',
}


CASES = [*((end, False) for end in ENDS), ("killed when repozo is done", True), ("no room", True)]


@pytest.mark.parametrize(("end", "full"), CASES)
def test_what_ends_a_backup_leaves_the_earlier_ones_as_they_were(server: Server, config: Config, end: str, full: bool):
    client(config, "write", "a", "1")
    backup(config)
    before = files(config.backups("root"))
    client(config, "write", "b", os.urandom(40000).hex())
    real = config.path("etc/zeo.json").read_text()
    put_repozo(config, ENDS[end])
    finished = program(config, "zeo-backup-now", *(["--full"] if full else []))
    assert finished.returncode != 0, finished.stdout
    assert files(config.backups("root")) == before
    config.path("etc/zeo.json").write_text(real)
    client(config, "write", "b", "2")
    backup(config)
    assert not repository.partial(config.backups("root")).exists()
    restore(server)
    assert client(config, "read") == "a=1 b=2"


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


def changes(config: Config, text: str, *words: str) -> Iterator[int]:
    """Run `text` in a partition that is as now each time, killed before its first change on the disk, its second, and
    so on, until it comes to its end; the number of that change."""
    saved = config.path("saved")
    shutil.copytree(config.path("srv"), saved)
    for number in range(1, 200):
        shutil.rmtree(config.path("srv"))
        shutil.copytree(saved, config.path("srv"))
        command = [sys.executable, "-c", text, str(number), config.path("etc/zeo.json"), *words]
        ended = subprocess.run(command, timeout=PATIENCE, capture_output=True)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        yield number
        if ended.returncode == 0:
            assert number > 10
            return
    raise AssertionError("it never comes to its end")


def holds(chain: Chain) -> bytes:
    """The database that a chain has; each of its files has to be what is on record."""
    for piece in chain.pieces:
        repository.verify(piece)
    return b"".join(gzip.decompress(piece.path.read_bytes()) for piece in chain.pieces)


@pytest.mark.parametrize("full", ["", "full"])
def test_killed_at_any_moment_a_backup_is_there_whole_or_not_at_all(server: Server, config: Config, full: str):
    client(config, "write", "a", "1")
    backup(config)
    old = config.database("root").read_bytes()
    client(config, "write", "b", "2")
    new = config.database("root").read_bytes()
    server.end()
    found = []
    for _ in changes(config, DIES, full):
        for look in (chains(config), repository.settle(config.backups("root"))):
            found.append(holds(look[-1]))
            assert holds(look[0]) == (old if full else found[-1]) and found[-1] in (old, new)
        assert found[-1] == found[-2]
    assert found[-1] == new and found[0] == old
    assert len(chains(config)) == (2 if full else 1)


def test_killed_at_any_moment_of_a_restore_there_is_one_of_both_databases(server: Server, config: Config):
    """And never the index of the other one."""
    client(config, "write", "a", "1")
    backup(config)
    client(config, "write", "b", "2")
    server.end()
    index = config.database("root").with_name("root.fs.index")
    before = config.database("root").read_bytes(), index.read_bytes()
    (chain,) = chains(config)
    after = holds(chain), chain.index.read_bytes()
    text = DIES.replace("import backup", "import restore").replace(
        "backup.make_all(given, full)", "restore.restore(given, 'root', None, None, True)"
    )
    found = []
    for _ in changes(config, text, ""):
        database = config.database("root").read_bytes()
        found.append((database, index.read_bytes() if index.exists() else b""))
        assert found[-1] in (before, after, (before[0], b""), (after[0], b""))
    assert (found[0], found[-1]) == (before, after)
    (aside,) = config.database("root").parent.glob("root.fs.before-restore-*")
    assert aside.read_bytes() == before[0]


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
