# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs something in a process of its own, and looks at its time, its memory, and the disk that it takes."""

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.bootstrap_primary import Primary
from tests.service.backup_fixtures import Partition

PERIOD = 0.1


@dataclass
class Sample:
    """`prepare` is a part of `seconds`; the rest are bytes, peaks of all processes of a side together."""

    seconds: float = 0
    prepare: float = 0
    extra_disk: int = 0
    sender_memory: int = 0
    receiver_memory: int = 0


def measure(work: Callable[[], dict[str, float]], target: Partition, primary: Primary) -> Sample:
    """Call `work`, which returns the seconds of its parts, in a fork. Raises AssertionError when it fails."""
    reader, writer = os.pipe()
    began = time.monotonic()
    if (child := os.fork()) == 0:
        sys.stderr = words = io.StringIO()
        try:
            os.write(writer, json.dumps(work()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os.write(2, words.getvalue().encode())
            os._exit(1)
    os.close(writer)
    sample, stop = Sample(), threading.Event()
    watcher = threading.Thread(target=watch, args=(sample, stop, child, target, primary))
    watcher.start()
    try:
        status = os.waitpid(child, 0)[1]
        sample.seconds = time.monotonic() - began
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        stop.set()  # also when we are told to end: Python waits for its threads
        watcher.join()
    with os.fdopen(reader, "rb") as pipe:
        assert status == 0, "it failed, see above"
        sample.prepare = json.loads(pipe.read()).get("prepare", 0)
    sample.extra_disk = max(sample.extra_disk - disk(target.folder), 0)
    return sample


def watch(sample: Sample, stop: threading.Event, child: int, target: Partition, primary: Primary) -> None:
    """Keep the peaks in `sample` until `stop` is set."""
    while not stop.wait(PERIOD):
        sender = memory(tree(primary.nginx.pid), tree(primary.control.pid))
        sample.sender_memory = max(sample.sender_memory, sender)
        sample.receiver_memory = max(sample.receiver_memory, memory(tree(child), *map(tree, pids(target))))
        sample.extra_disk = max(sample.extra_disk, disk(target.folder))


def pids(partition: Partition) -> Iterable[int]:
    """The processes that the partition has started."""
    return (child.pid for child in partition.processes)


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it; none when it has ended."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def memory(*trees: list[psutil.Process]) -> int:
    """What is theirs: a page that several share counts once."""
    total = 0
    for process in (process for one in trees for process in one):
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss
    return total


def disk(folder: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total
