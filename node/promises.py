# SPDX-License-Identifier: GPL-2.0-or-later
"""Evaluates a partition's promises now, as slapgrid does while it is up to date, but whatever their period."""

import json
import subprocess
import sys
from pathlib import Path

import slapos.grid.promise


def evaluate(partition: Path, master_url: str, computer: str = "local") -> dict[str, tuple[bool, str]]:
    """Run all promises of `partition`; return {title: (failed, message)}, empty while there are none."""
    values = {
        "promise-folder": partition / "etc" / "plugin",
        "legacy-promise-folder": partition / "etc" / "promise",
        "partition-folder": partition,
        "log-folder": partition / ".slapgrid" / "promise" / "log",
        "promise-timeout": 20,
        "master-url": master_url,
        "partition-id": partition.name,
        "computer-id": computer,
    }
    # In a process of its own, as slapgrid does it: promises throw imported modules away.
    program = str(Path(slapos.grid.promise.__file__).with_name("runpromises.py"))
    options = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, program, *options, "--force", "--check-anomaly"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return results(partition)


def results(partition: Path) -> dict[str, tuple[bool, str]]:
    """What the partition's promises said last; of a promise that is gone slapgrid keeps what it once said."""
    found = [json.loads(path.read_text()) for path in sorted(partition.glob(".slapgrid/promise/result/*.status.json"))]
    return {
        data["title"]: (data["result"]["failed"], data["result"]["message"])
        for data in found
        if Path(data["path"]).exists()
    }
