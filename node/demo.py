# SPDX-License-Identifier: GPL-2.0-or-later
"""What bin/demo does once its environment stands: a SlapOS node, the release, and the instances that are shown."""

import argparse
import os
import shutil
import sys
from pathlib import Path

import demo_erp5
import demo_mariadb
from demo_node import Node, StepFailed, step


def main() -> int:
    """Run, stop or destroy the node below `--directory`; the exit status is 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("action", choices=["run", "stop", "destroy"])
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--erp5", action="store_true")
    arguments = parser.parse_args()
    node = Node(arguments.directory)
    try:
        if arguments.action == "run":
            run(node, arguments.update)
            (demo_erp5 if arguments.erp5 else demo_mariadb).run(node)
        else:
            step("Stop the node and its services", node.stop)
    except StepFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def run(node: Node, update: bool) -> None:
    """Bring the node and the release up."""
    step("SlapOS node with its embedded Master", node.start)
    step("Software release", lambda: node.build(update))
    if update:
        step("Stop all services, which start with the new release", node.restart_all)


if __name__ == "__main__":
    # The standalone node looks up supervisord and buildout by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert shutil.which("supervisord"), "supervisord is not beside this Python"
    sys.exit(main())
