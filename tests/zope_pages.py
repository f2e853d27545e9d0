# SPDX-License-Identifier: GPL-2.0-or-later
"""What people see on the ports of a partition's Zopes or of a balancer, and write there as their first user."""

import contextlib
import http.client
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from slapos.recipe.erp5.zope.config import Config

PATIENCE = 60.0


@dataclass(frozen=True)
class Page:
    """An answer; `state` is what the standby supervisor says of itself, "" when it was Zope that answered."""

    status: int
    body: str
    headers: dict[str, str]

    @property
    def state(self) -> str:
        return self.headers.get("X-Zope-State", "")


def get(config: Config, path: str, name: str, timeout: float = PATIENCE, **form: str) -> Page:
    """An answer of the Zope `name`; with `form` as its first user. Raises OSError and HTTPException."""
    zope, user = config.zope(name), config.inituser
    headers = {}
    if form:
        headers["Authorization"] = "Basic " + b64encode(f"{user.name}:{user.password}".encode()).decode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    return ask(zope.host, zope.port, path, urlencode(form) if form else None, headers, timeout)


def ask(
    host: str,
    port: int,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = PATIENCE,
    method: str = "",
) -> Page:
    """An answer to a GET, or with a body to a POST, unless it is another `method`. Raises OSError and HTTPException."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        response = connection.getresponse()
        # As they were sent, but for haproxy, which makes names small.
        found = {name.title(): value for name, value in response.getheaders()}
        return Page(response.status, response.read().decode("utf-8", "replace"), found)


def fetch(url: str, path: str = "/page") -> Page:
    """An answer at a URL such as those of the balancer. Raises OSError and HTTPException."""
    parts = urlsplit(url)
    return ask(parts.hostname or "", parts.port or 80, path)


def write(config: Config, text: str, name: str) -> None:
    """Let /page show a text."""
    if get(config, "/page", name).status == 404:
        made = get(config, "/manage_addProduct/OFSP/manage_addDTMLMethod", name, id="page", file=text)
        assert made.status in (200, 302), made
    else:
        changed = get(config, "/page/manage_edit", name, data=text, title="")
        assert changed.status in (200, 302), changed
    assert get(config, "/page", name).body == text


def read(config: Config, name: str) -> str:
    """What /page shows."""
    page = get(config, "/page", name)
    assert page.status == 200, page
    return page.body


@dataclass(frozen=True)
class Seen:
    """What a request met with: a page, or no answer for the reason `error`."""

    at: float
    page: Page | None
    error: str = ""


class Watcher(threading.Thread):
    """A request every 50 ms, all along; `get` may raise OSError and HTTPException."""

    def __init__(self, get: Callable[[], Page]) -> None:
        super().__init__()
        self.get, self.seen = get, list[Seen]()
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.05):
            try:
                page, error = self.get(), ""
            except (OSError, http.client.HTTPException) as problem:
                page, error = None, repr(problem)
            self.seen.append(Seen(time.monotonic(), page, error))

    def stop(self) -> list[Seen]:
        self._enough.set()
        self.join()
        return self.seen


@contextlib.contextmanager
def watching(get: Callable[[], Page]) -> Iterator[Watcher]:
    watcher = Watcher(get)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
