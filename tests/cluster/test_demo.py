# SPDX-License-Identifier: GPL-2.0-or-later
"""bin/demo, as a newcomer runs it: from nothing to green, again at once, stopped, and gone without a trace."""

import re
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.node import ROOT, connect, run


@pytest.fixture(scope="module")
def directory():
    """A short path for the demo, which does not exist yet; destroyed at the end whatever happens."""
    parent = Path(tempfile.mkdtemp(prefix="demo", dir="/tmp"))
    yield parent / "d"
    run([str(ROOT / "bin/demo"), "--dir", str(parent / "d"), "--destroy"])
    shutil.rmtree(parent, ignore_errors=True)


def demo(directory, *options):
    """Run bin/demo; its output and its seconds."""
    began = time.monotonic()
    finished = run([str(ROOT / "bin/demo"), "--dir", str(directory), *options])
    assert finished.returncode == 0, finished.stdout
    return finished.stdout, time.monotonic() - began


def processes(directory):
    """Processes that name the directory in their command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_from_nothing_to_green_and_gone_again(directory, tmp_path):
    output, first = demo(directory)
    promises = re.findall(r"^  (green|RED) +(\S+): ", output, re.MULTILINE)
    assert len(promises) == 12 and {colour for colour, _ in promises} == {"green"}, output
    assert re.search(r"mariadb-replication: Mariadb replicates from \S+ over TLS, ", output), output

    # What it prints works as it stands.
    for url in re.findall(r"mysql://\S+/erp5", output):
        connect(url).close()
    (download,) = re.findall(r"curl --fail .*\.sql\.zst", output)
    subprocess.run([*download.split(), "--silent"], check=True, cwd=tmp_path)
    (dump,) = tmp_path.glob("*.sql.zst")
    assert dump.stat().st_size > 1000
    (row,) = re.findall(r"^Written on mariadb-primary, read on mariadb-replica: (.+)$", output, re.MULTILINE)
    assert row.split()[:4] == ["1", "written", "on", "server"]
    # The Master's database knows every password, so nobody else may even enter.
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    again, second = demo(directory)
    assert re.findall(r"mysql://\S+", again) == re.findall(r"mysql://\S+", output)
    assert second < first / 2

    for process in processes(directory):
        process.kill()
    survived, _ = demo(directory)
    assert re.findall(r"mysql://\S+", survived) == re.findall(r"mysql://\S+", output)

    supervisor = next(p for p in processes(directory) if "--nodaemon" in p.cmdline())
    supervisor.kill()
    demo(directory, "--stop")
    assert processes(directory) == []
    revived, _ = demo(directory)
    assert "RED" not in revived

    demo(directory, "--destroy")
    assert processes(directory) == []
    assert not directory.exists()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--dir", str(ROOT / "inside")], "lies in the checkout, which is copied into it: give another --dir."),
        (["--dir", str(ROOT.parent)], "The checkout lies in"),
        (["--dir", "/tmp"], "/tmp exists and was not made by bin/demo: give another --dir."),
        (
            ["--dir", "/tmp/" + "x" * 60],
            "is longer than 48 characters, too long for Unix sockets: ",
        ),
        (["--typo"], "bin/demo does not know '--typo'"),
    ],
)
def test_what_it_refuses(options, sentence):
    finished = run([str(ROOT / "bin/demo"), *options])
    assert finished.returncode == 2
    assert sentence in finished.stdout
