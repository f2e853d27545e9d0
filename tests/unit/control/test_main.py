# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control process starts for a service, with a page and without; its turns are in test_scheduler.py."""

import contextlib
import threading

import pytest

from slapos.recipe.erp5.control import main
from tests.unit.control.asking import ask, connect, raw
from tests.unit.control.fake import service as fake


class Node(fake.Lamp):
    """A service without a page, which nobody looks at."""

    has_page = False

    def sight(self):
        raise AssertionError("nobody looks here")


@pytest.fixture
def config(tmp_path):
    return fake.partition(tmp_path / "p")


def names() -> set[str]:
    """The threads that there are."""
    return {thread.name for thread in threading.enumerate()}


def test_a_service_with_a_page(config):
    with contextlib.ExitStack() as ends:
        main._started(fake.Lamp(), fake.json_of(config), ends).open()
        assert {"sampler", "watcher", "web"} <= names()
        status, _, text = raw(config.control_socket, b"GET /control/ HTTP/1.0\r\n\r\n")
        assert status == 200 and b"looks after a lamp" in text
    with pytest.raises(OSError):
        connect(config.control_socket)


def test_a_service_without_a_page_has_its_jobs_and_what_others_ask(config):
    with contextlib.ExitStack() as ends:
        main._started(Node(), fake.json_of(config), ends).open()
        assert ask(config.control_socket, "GET", "/control/")[0] == 404
        assert ask(config.control_socket, "GET", "/control/peer/challenge")[0] == 200


def test_a_service_keeps_threads_which_are_told_to_end(config, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def keep(path, stop):
        assert path == fake.json_of(config)
        begun.set()
        stop.wait(30)
        ended.set()

    service = fake.Lamp()
    monkeypatch.setattr(service, "threads", lambda: {"oil": keep})
    with contextlib.ExitStack() as ends:
        main._started(service, fake.json_of(config), ends)
        assert begun.wait(30) and "oil" in names() and not ended.is_set()
    assert ended.wait(30)
