# SPDX-License-Identifier: GPL-2.0-or-later
"""What people see on the ports of a partition's Zopes, and write there as their first user."""

import http.client
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import urlencode

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
    connection = http.client.HTTPConnection(zope.host, zope.port, timeout=timeout)
    headers = {}
    if form:
        headers["Authorization"] = "Basic " + b64encode(f"{user.name}:{user.password}".encode()).decode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request("POST" if form else "GET", path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        return Page(response.status, response.read().decode("utf-8", "replace"), dict(response.getheaders()))
    finally:
        connection.close()


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
