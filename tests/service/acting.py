# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition of the service tests can be told to do: the actions of its service, as their program does them."""

import json
import subprocess
import sys
from typing import Any

from slapos.recipe.erp5.control import actions, journal
from tests.service import servers


class Acting:
    """Of a partition; it also has `config`, the path `json` of its JSON file, and `log()`, the ends of its logs."""

    actions_module: str
    json: Any
    config: Any

    def log(self) -> str:
        raise NotImplementedError

    def act(self, action: str, *options: str, place: str = "", victim: str = "", **given: Any) -> subprocess.Popen[str]:
        """Begin an action, as its program or the page does; `given` are its options, also secret ones.

        With `place` it, or `victim`, is killed there (fault.py).
        """
        command = ("tests.service.fault", place, victim, self.actions_module, action, "--config", str(self.json))
        child = subprocess.Popen(
            [sys.executable, "-m", *command, "--options-on-stdin", *options],
            cwd=servers.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        child.stdin.write(json.dumps({key.replace("_", "-"): value for key, value in given.items()}))
        child.stdin.close()
        child.stdin = None
        return child

    def acted(self, action: str, *options: str, **given: Any) -> str:
        """What an action that succeeds says at its end."""
        code, said = ended(self.act(action, *options, **given))
        assert code == 0, f"{said}\n{self.log()}"
        return said

    def refused(self, action: str, *options: str, **given: Any) -> str:
        """What an action that fails says at its end."""
        code, said = ended(self.act(action, *options, **given))
        assert code == 1, said
        return said.removeprefix("error: ")

    def in_turn(self, action: str, **given: Any) -> tuple[int, str]:
        """How an action ends that waits its turn, as the control process may be at what was killed: code and words."""
        found: list[tuple[int, str]] = []

        def had_its_turn() -> bool:
            found[:] = [ended(self.act(action, **given))]
            return found[0][0] != actions.BUSY

        servers.wait_for(had_its_turn, f"the turn of {action}")
        return found[0]

    def outcomes(self) -> list[tuple[str, str]]:
        """What the journal has, the oldest first."""
        return [(entry.action, entry.outcome) for entry in reversed(journal.last(self.config))]


def ended(child: subprocess.Popen[str], everything: bool = False) -> tuple[int, str]:
    """A program's exit code, and the last thing that it logged, without the time; or `everything` that it printed."""
    printed, said = child.communicate(timeout=servers.PATIENCE)
    if everything:
        return child.returncode, printed
    lines = said.strip().splitlines() or ["                    "]
    return child.returncode, lines[-1][20:]
