# SPDX-License-Identifier: GPL-2.0-or-later
"""Program PREFIX-control: the one Python process of a partition, which schedules its jobs and answers on a socket."""

import argparse
import contextlib
import functools
import importlib
import os
import selectors
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import web
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.control.scheduler import LONGEST_WAIT, Scheduler
from slapos.recipe.erp5.control.service import Service, Tending
from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import ConfigurationError, Error


def main(service: Service, arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 the configuration cannot be used (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog=f"{service.prefix}-control", description="Schedule jobs, and answer nginx.")
    parser.add_argument("--config", required=True, help=f"the partition's {service.json}")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: serve(service, path))


def serve(service: Service, path: Path) -> None:
    """Follow the configuration at `path` and its changes. Raises ConfigurationError when the first one is unusable."""
    os.umask(0o077)
    watched = Watched(path)
    watched.has_changed()
    config = service.load(path)
    plans = service.plans(config, path)
    service.prepare(config)
    with selectors.DefaultSelector() as selector, Signals(selector) as signals, contextlib.ExitStack() as ends:
        scheduler = Scheduler(config.scheduler_state, selector)
        scheduler.take(plans, "", times.now())
        ends.callback(lambda: scheduler.stop(times.now()))
        door = _started(service, path, ends)
        tending = service.tending(config)
        while not signals.stop:
            timeout = turn(service, scheduler, watched, door, tending)
            for key, _ in selector.select(0 if signals.stop else timeout):
                key.data()


def _started(service: Service, path: Path, ends: contextlib.ExitStack) -> web.Door:
    """The door, not open yet; the threads are at work, until `ends` stops them, the last one first."""
    make_page = None
    if service.has_page:
        sampler = Sampler(service, path)
        sampler.start()
        ends.callback(sampler.stop)
        make_page = functools.partial(_page, service, path, sampler)
    door = web.Door(service, path, make_page)
    ends.callback(door.close)
    watcher = Watcher(service, path)
    watcher.start()
    ends.callback(watcher.stop)
    stop = threading.Event()
    for name, keep in service.threads().items():
        threading.Thread(target=keep, args=(path, stop), name=name, daemon=True).start()
    ends.callback(stop.set)
    return door


def _page(service: Service, path: Path, sampler: Sampler) -> web.Pages:
    page = importlib.import_module("slapos.recipe.erp5.control.page")  # with templates and metrics
    return page.Page(service, path, sampler)


def turn(service: Service, scheduler: Scheduler, watched: "Watched", door: web.Door, tending: Tending[Any]) -> float:
    """Do what is to be done now; returns the seconds until the next turn at the latest.

    Whatever goes wrong here is one line, and tried again: no single job or file may end all the others for good.
    """
    try:
        if watched.has_changed():
            _take_over(service, scheduler, watched.path, tending)
        _open(door)
        _look(tending)
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


def _look(tending: Tending[Any]) -> None:
    """Let the service be seen to; the jobs run on whatever comes of it."""
    try:
        tending.look()
    except (Error, OSError) as error:
        process.log(f"error: {process.describe(error)}; this is tried again in {LONGEST_WAIT:g} s")


def _take_over(service: Service, scheduler: Scheduler, path: Path, tending: Tending[Any]) -> None:
    """Follow the changed configuration; one that cannot be used changes nothing but the state's `problem`."""
    try:
        config = service.load(path)
        plans, problem = service.plans(config, path), ""
        tending.follow(config)
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
