# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts an action of the service as a process of its own, options on its standard input, and hears how it ended."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.scheduler import python_command, python_path
from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.errors import Busy

FIRST_SIGN = 5.0
"""Seconds in which an action shows that it has begun, or has ended."""


@dataclass(frozen=True)
class Ended:
    """How the last action that was started here ended: exit status, and the last line that it wrote."""

    action: str
    status: int
    sentence: str


class Runner:
    """Starts one action at a time; `then` is called when one has ended. `path` is of the configuration."""

    def __init__(self, service: Service, path: Path, then: Callable[[], object] = lambda: None) -> None:
        self._module, self._path, self._then = service.actions_module, path, then
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self.ended: Ended | None = None

    def start(self, config: Configuration, name: str, options: Mapping[str, object]) -> None:
        """Start the action, and wait until it shows. Raises Busy when one runs, CommandError.

        It goes on when the control process ends: an action that is cut short would only have to be begun again.
        """
        with self._lock:
            running = action.current(config)
            if running or (self._child and self._child.poll() is None):
                who = running.action if running and running.action else "another action"
                since = f" since {running.started}" if running else ""
                raise Busy(f"{who} runs here{since}, expected none for {name}: wait for its end")
            given = ("--config", str(self._path), "--by", "page", "--options-on-stdin")
            command = python_command(self._module, name, *given)
            self.ended = None
            child = process.start(
                command, env=python_path(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=None
            )
            self._child = child
        thread = threading.Thread(target=self._watch, args=(name, child, dict(options)), name="action", daemon=True)
        thread.start()
        deadline = time.monotonic() + FIRST_SIGN
        while thread.is_alive() and not action.current(config) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _watch(self, name: str, child: subprocess.Popen[bytes], options: dict[str, object]) -> None:
        stdin, stderr = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stderr)
        with stderr:
            try:
                with stdin:
                    stdin.write(json.dumps(options).encode())
            except BrokenPipeError:
                pass  # it says why
            sentence = ""
            for line in stderr:
                text = line.decode("utf-8", "replace").rstrip("\n")
                print(text, file=sys.stderr, flush=True)
                sentence = text.split(" ", 2)[-1].removeprefix("error: ") or sentence
        self.ended = Ended(name, child.wait(), sentence)
        self._then()
