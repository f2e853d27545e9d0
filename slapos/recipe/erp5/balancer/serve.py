# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs haproxy, and has it take over a changed configuration without losing a connection: the program `balancer`.

It is the command of a supervisor: when haproxy ends it ends, too, and both are started again. It has few modules, as it
is always there. Gather: what is wanted and what is loaded. Decide: below. Act: check, swap, SIGUSR2.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from slapos.recipe.erp5 import lean, process
from slapos.recipe.erp5.balancer import config as configuration
from slapos.recipe.erp5.balancer.config import Config
from slapos.recipe.erp5.errors import CommandError, ConfigurationError, Error

END = "# The end."
"""What a configuration ends with that was written to its end."""
PAUSE = 1.0
"""Seconds between two looks at the configuration that is wanted."""
PATIENCE = 10.0
"""Seconds that haproxy has to end when it was asked to."""
CHECK = 60.0
"""Seconds that haproxy has to check a configuration."""


def decide(wanted: str | None, loaded: str | None, refused: str | None) -> bool:
    """Whether what is wanted is to be loaded: complete, and neither loaded nor refused already. None: not there."""
    return wanted is not None and wanted.endswith(END) and wanted not in (loaded, refused)


class Balancer:
    """haproxy of one partition; `refused` is the configuration that it did not take last."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.child: subprocess.Popen[bytes] | None = None
        self.refused: str | None = None
        self.version: tuple[int, ...] = ()

    def serve(self) -> None:
        """Until a signal. Raises CommandError when haproxy ends, or there is nothing that it could load."""
        self.look()
        if not self.config.loaded.exists():
            raise ConfigurationError(
                f"there is no configuration that haproxy takes, expected one in {self.config.wanted}: process the"
                " instance (slapos node instance)"
            )
        # In our process group, which the supervisor ends as a whole.
        command: list[str | Path] = [self.config.program, "-W", "-f", self.config.loaded]
        self.child = process.start(command, preexec_fn=process.die_with_parent(signal.SIGTERM))
        try:
            while self.child.poll() is None:
                time.sleep(PAUSE)
                if self._answers():  # before, a SIGUSR2 would end it
                    self.look()
        finally:
            self._end()
        raise process.failure(command, "balance", self.child.returncode, b"see above")

    def look(self) -> None:
        """Load what is wanted, if that has changed and haproxy takes it."""
        version = self._version()
        if version == self.version:
            return
        wanted, loaded = _read(self.config.wanted), _read(self.config.loaded)
        if decide(wanted, loaded, self.refused):
            try:
                self._load(wanted or "")
            except (Error, OSError) as error:  # such as a full disk: no reason to end what haproxy does
                process.log(f"error: {process.describe(error)}; it is tried again")
                return
        elif wanted == loaded:
            self.config.refusal.unlink(missing_ok=True)
        if wanted is not None and wanted.endswith(END):
            self.version = version

    def _load(self, wanted: str) -> None:
        """Check it beside, swap, and have haproxy read it: old processes go on with the connections that they have."""
        beside = self.config.loaded.with_name("haproxy.cfg.new")
        process.write_atomically(beside, wanted + "\n", durable=False)
        try:
            process.run([self.config.program, "-c", "-f", beside], "take over etc/haproxy.cfg", timeout=CHECK)
        except CommandError as error:
            self.refused = wanted
            process.log(f"error: {error}; it goes on with the earlier one")
            process.write_atomically(self.config.refusal, str(error), durable=False)
            return
        os.replace(beside, self.config.loaded)
        self.config.refusal.unlink(missing_ok=True)
        if self.child:
            process.log("etc/haproxy.cfg has changed: haproxy takes it over")
            self.child.send_signal(signal.SIGUSR2)

    def _version(self) -> tuple[int, ...]:
        """Differs once somebody has written the file that is wanted; empty when there is none."""
        with contextlib.suppress(FileNotFoundError):
            found = self.config.wanted.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return ()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.config.socket)) == 0

    def _end(self) -> None:
        if self.child and self.child.poll() is None:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(PATIENCE)
            self.child.kill()


def _read(path: os.PathLike) -> str | None:
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return file.read().rstrip()
    return None


def serve(arguments: list[str]) -> int:
    """Exit codes: 1 haproxy ended or cannot be started, 2 wrong arguments, 128 and a signal's number after that."""
    if len(arguments) != 2 or arguments[0] != "--config":
        process.log("usage: balancer --config etc/balancer.json")
        return 2
    return process.program(lambda: Balancer(configuration.load(arguments[1])).serve())


def main() -> None:
    lean.become(__name__)
