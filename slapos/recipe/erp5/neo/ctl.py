# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-ctl: NEO's neoctl, asking the first of a cluster's admins that can be reached."""

import argparse
import os
import socket
from collections.abc import Sequence

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Unreachable
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo.config import Software

TIMEOUT = 2.0


def first_reachable(admins: Sequence[str]) -> str:
    """The first of the addresses (`host:port`) where somebody listens. Raises Unreachable."""
    said = []
    for address in admins:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), TIMEOUT).close()
        except OSError as error:
            said.append(f"{address} ({process.reason(error)})")
        else:
            return address
    if not said:
        raise Unreachable("the cluster's admins are not known yet, expected their addresses: process the instance")
    raise Unreachable(f"no admin of the cluster answers at {', '.join(said)}: start one, or look at the network")


def run(software: Software, admins: Sequence[str], words: Sequence[str]) -> None:
    """Become neoctl with these words. Raises Unreachable, OSError."""
    command = [software.program("python"), software.ctl_script, "-a", first_reachable(admins), *words]
    with process.attempting(f"start {command[0]}"):
        os.execve(command[0], command, process.environment())


def main(arguments: Sequence[str] | None = None) -> int:
    """neoctl's exit code, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="neo-ctl", description="neoctl, with the cluster's admins filled in.")
    parser.add_argument("--config", required=True, help="the cluster's etc/neo.json")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="neoctl's own, such as print cluster")
    given = parser.parse_args(arguments)

    def body() -> None:
        config = configuration.load_cluster(given.config)
        run(config.software, config.admins, given.words)

    return process.program(body)


if __name__ == "__main__":
    raise SystemExit(main())
