# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-control: the one Python process of a partition, which schedules its jobs and answers on a socket."""

import argparse
import contextlib
import importlib
import os
import selectors
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import jobs, web
from slapos.recipe.erp5.control.network import Network
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.control.scheduler import LONGEST_WAIT, Scheduler
from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import ConfigurationError, Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import semi_sync


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 the configuration cannot be used (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="mariadb-control", description="Schedule jobs, and answer nginx.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: serve(path))


def serve(path: Path) -> None:
    """Follow the configuration at `path` and its changes. Raises ConfigurationError when the first one is unusable."""
    os.umask(0o077)
    watched = Watched(path)
    watched.has_changed()
    config = configuration.load(path)
    plans = jobs.plans(config, path)
    jobs.prepare(config)
    with selectors.DefaultSelector() as selector, Signals(selector) as signals:
        scheduler = Scheduler(config.scheduler_state, selector)
        scheduler.take(plans, "", times.now())
        sampler, watcher = Sampler(path), Watcher(path)
        sampler.start()
        watcher.start()
        stop = threading.Event()
        threading.Thread(target=semi_sync.keep, args=(path, stop), name="semi-sync", daemon=True).start()
        door = web.Door(path, lambda path: _page(path, sampler))
        network = Network(config)
        try:
            while not signals.stop:
                timeout = turn(scheduler, watched, door, network)
                for key, _ in selector.select(0 if signals.stop else timeout):
                    key.data()
        finally:
            stop.set()
            watcher.stop()
            door.close()
            sampler.stop()
            scheduler.stop(times.now())


def _page(path: Path, sampler: Sampler) -> web.Pages:
    page = importlib.import_module("slapos.recipe.erp5.control.page")  # with templates and metrics
    return page.Page(path, sampler)


def turn(scheduler: Scheduler, watched: "Watched", door: web.Door, network: Network) -> float:
    """Do what is to be done now; returns the seconds until the next turn at the latest.

    Whatever goes wrong here is one line, and tried again: no single job or file may end all the others for good.
    """
    try:
        if watched.has_changed():
            _take_over(scheduler, watched.path, network)
        _open(door)
        _look(network)
        return scheduler.tick(times.now())
    except Exception as error:
        watched.forget()
        process.log(f"error: unexpected {type(error).__name__}: {error}; the jobs go on in {LONGEST_WAIT:g} s")
        return LONGEST_WAIT


def _open(door: web.Door) -> None:
    """Answer on the socket; where that cannot be, the jobs run all the same, and it is tried again at the next turn."""
    try:
        door.open()
    except (Error, OSError) as error:
        process.log(f"error: {process.describe(error)}; this is tried again in {LONGEST_WAIT:g} s")


def _look(network: Network) -> None:
    """Have the server restarted when it needs another network; the jobs run on whatever comes of it."""
    try:
        network.look()
    except (Error, OSError) as error:
        process.log(f"error: {process.describe(error)}; this is tried again in {LONGEST_WAIT:g} s")


def _take_over(scheduler: Scheduler, path: Path, network: Network) -> None:
    """Follow the changed configuration; one that cannot be used changes nothing but the state's `problem`."""
    try:
        config = configuration.load(path)
        plans, problem = jobs.plans(config, path), ""
        network.follow(config)
        process.log(f"{path} has changed: following it")
    except ConfigurationError as error:
        plans, problem = scheduler.plans, str(error)
        process.log(f"error: {problem}")
    scheduler.take(plans, problem, times.now())


class Watched:
    """A file that may be replaced or rewritten at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """Whether it is another one than at the last call; a file that is missing for a moment has not changed."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        last, self._seen = self._seen, (status.st_ino, status.st_mtime_ns, status.st_size)
        return self._seen != last

    def forget(self) -> None:
        """Count the file as changed at the next look."""
        self._seen = None


class Signals:
    """Turns signals into readable bytes on `selector`, so that they end its wait; SIGTERM and SIGINT set `stop`."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.stop = False
        self._selector = selector
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Signals":
        reader, writer = (self._stack.enter_context(end) for end in socket.socketpair())
        for end in (reader, writer):
            end.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4096))
        self._stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for number in (signal.SIGCHLD, signal.SIGHUP):  # only to wake: a child that ended, a file to look at now
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stop(self, *_: object) -> None:
        self.stop = True


if __name__ == "__main__":
    raise SystemExit(main())
