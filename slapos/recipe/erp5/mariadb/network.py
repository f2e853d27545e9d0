# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets mariadbd be restarted when its network, which is static in it, is asked for otherwise than it has it."""

import time
from pathlib import Path

from slapos.recipe.erp5 import process, supervisor
from slapos.recipe.erp5.mariadb import decide, status
from slapos.recipe.erp5.mariadb.config import Config

SETTLING = 20.0
"""Seconds that role and network may differ without a change of parameters: who changes the role restarts by himself."""
PAUSE = 300.0
"""Seconds between two restarts that no change of parameters asks for, should one not help."""


def server_options(config: Config) -> tuple[int, tuple[str, ...]] | None:
    """The pid and the words of the running server's command line; None when it runs not yet, or without supervisor."""
    found = supervisor.status(config.service)
    if found is None or not found.child_pid:
        return None
    try:
        words = Path("/proc", str(found.child_pid), "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return None
    return (found.child_pid, tuple(words)) if Path(words[0]).name == "mariadbd" else None


def differs(running: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether the server has another network than it would get now."""
    return (decide.SILENT in running) != (decide.SILENT in wanted)


class Network:
    """What was seen: `look` is to be called again and again, `follow` with each configuration."""

    def __init__(self, config: Config) -> None:
        self.follow(config)
        self.not_before = 0.0

    def follow(self, config: Config) -> None:
        """Take `config`, as new: what differs because of it is put right at once."""
        self.config, self.fresh = config, True
        self.seen, self.since = 0, 0.0

    def look(self) -> None:
        """Ask for a restart when one is due. Raises ServerError."""
        found = server_options(self.config)
        if found is None:
            return
        pid, running = found
        wanted = decide.server_options(self.config.replication, status.is_replica(self.config))
        now = time.monotonic()
        if not differs(running, wanted):
            self.fresh, self.seen = False, 0
        elif self._is_due(pid, now):
            process.log(f"restart the service mariadb: its network is to be {_words(wanted)}, and is {_words(running)}")
            supervisor.ask(self.config.service, "restart")
            self.fresh, self.seen, self.not_before = False, 0, now + PAUSE

    def _is_due(self, pid: int, now: float) -> bool:
        if self.seen != pid:
            self.seen, self.since = pid, now
        return self.fresh or (now >= self.not_before and now - self.since >= SETTLING)


def _words(options: tuple[str, ...]) -> str:
    return "off" if decide.SILENT in options else "on"
