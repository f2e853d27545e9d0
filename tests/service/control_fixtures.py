# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition's control page as people reach it: nginx with its real configuration, and mariadb-control behind it."""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls.context import unverified
from tests.service import servers
from tests.service.authority import Authority
from tests.service.servers import wait_for

TOKEN = "0123456789abcdef0123456789abcdef"
_numbers = itertools.cycle(range(1, 255))
BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
"""What a browser says of a POST from a page that came with Referrer-Policy no-referrer."""


class Front:
    """nginx and mariadb-control of a partition; what they say is in var/log/others.log."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.processes: list[subprocess.Popen] = []

    def start(self) -> None:
        config, nginx = self.config, servers.part("nginx") + "/sbin/nginx"
        Authority().install(config.tls, *filter(None, (config.network.ipv4, config.network.ipv6)))
        self.write_nginx()
        if not config.control_token.exists():
            config.control_token.write_text(TOKEN)
        errors = config.path("var", "log", "nginx-error.log")
        nginx_process = self.spawn(nginx, "-e", errors, "-p", config.partition, "-c", config.path("etc", "nginx.conf"))
        self.start_control()
        wait_for(
            lambda: servers.is_up(nginx_process) and servers.listens(config.control_socket),
            "nginx and mariadb-control",
        )

    def start_control(self) -> subprocess.Popen:
        control = (sys.executable, "-m", "slapos.recipe.erp5.mariadb.control")
        return self.spawn(*control, "--config", self.config.path("etc", "mariadb.json"))

    def write_nginx(self) -> None:
        config = self.config
        names = {"srv": "srv", "backup": "srv/backup", "run": "var/run", "log": "var/log", "nginx": "var/run/nginx"}
        config.path("var", "run", "nginx").mkdir(exist_ok=True)
        content = servers.render(
            "stack/erp5/mariadb/nginx.conf.in",
            directory={name: str(config.path(folder)) for name, folder in names.items()},
            address={"ipv4": config.network.ipv4, "ipv6": config.network.ipv6},
            port=config.network.backup_port,
            control_port=config.network.control_port,
            token=config.secrets.backup_token,
            parameters={"replicas-use-tls": True},
        )
        config.path("etc", "nginx.conf").write_text(content)

    def spawn(self, *command: str | Path) -> subprocess.Popen:
        environment = {**os.environ, "OPENSSL_CONF": os.devnull}
        with self.config.path("var", "log", "others.log").open("ab") as log:
            child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        self.processes.append(child)
        return child

    def end(self) -> None:
        for child in self.processes:
            child.terminate()
        for child in self.processes:
            child.wait(servers.PATIENCE)

    def logs(self) -> dict[str, str]:
        """All that anything in the partition has logged, by file."""
        return {path.name: path.read_text() for path in self.config.path("var", "log").iterdir() if path.is_file()}

    @property
    def said(self) -> str:
        """What mariadb-control and its actions said."""
        return self.logs()["others.log"]

    @property
    def accesses(self) -> list[str]:
        """The lines of nginx's access log, without address and time."""
        return [line.split("] ", 1)[1] for line in self.logs()["nginx-access.log"].splitlines()]

    def wait_for_a_look(self) -> None:
        """Until the sampler has seen the database."""
        reader = Client(self)
        wait_for(lambda: reader.status()["at"], "a look")


@contextlib.contextmanager
def fronted(config: Config) -> Iterator[Front]:
    """A partition's page, up."""
    front = Front(config)
    try:
        front.start()
        yield front
    finally:
        front.end()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def problem(self) -> str:
        """The sentence that a page has in red, without marks; empty when it has none."""
        found = re.search(r'<p class="problem" role="alert">(.*?)</p>', self.text, re.S)
        return found[1].replace("&#39;", "'") if found else ""

    def field(self, name: str) -> str:
        """A hidden field's value."""
        found = re.search(rf'name="{name}" value="([0-9a-f]*)"', self.text)
        assert found, self.text
        return found[1]


class Client:
    """Somebody with a browser, or without: keeps a cookie, follows nothing."""

    def __init__(self, front: Front, host: str = "127.0.0.1") -> None:
        self.front, self.host, self.cookie = front, host, ""
        # Each comes from an address of its own, as there are limits by address.
        self.address = ("", 0) if ":" in host else (f"127.0.1.{next(_numbers)}", 0)

    def ask(
        self, method: str, path: str, form: Mapping[str, str] | None = None, body: bytes = b"", **headers: str
    ) -> Answer:
        """One request; `headers` have `_` for `-`."""
        port = self.front.config.network.control_port
        connection = http.client.HTTPSConnection(
            self.host, port, timeout=60, context=unverified(), source_address=self.address if self.address[0] else None
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent["Cookie"] = self.cookie
        if form is not None:
            body = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        with contextlib.closing(connection):
            connection.request(method, path, body or None, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read().decode())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, **form: str) -> Answer:
        """As our own page does it; names of fields have `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in form.items()}
        return self.ask("POST", path, named, **BROWSER)

    def log_in(self, secret: str = TOKEN) -> Answer:
        answer = self.post("/login", token=secret)
        if answer.status == 303:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def form(self, action: str) -> Answer:
        answer = self.get(f"/action/{action}")
        assert answer.status == 200, answer.text
        return answer

    def confirm(self, action: str, **changes: str) -> Answer:
        """Look at an action's page, type the instance's name, and press the button."""
        page = self.form(action)
        fields = {
            "guard": page.field("guard"),
            "number": page.field("number"),
            "instance": self.front.config.instance,
            "do": "act",
        }
        return self.post(f"/action/{action}", **{**fields, **changes})

    def status(self) -> dict[str, Any]:
        answer = self.get("/status.json", Authorization=f"Bearer {token.read_token(TOKEN)}")
        assert answer.status == 200, answer.text
        return json.loads(answer.text)
