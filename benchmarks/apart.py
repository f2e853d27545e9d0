# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets a benchmark run in a process of its own, with our dependencies, and not as root, as MariaDB does not."""

import argparse
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("benchmarks", "slapos", "software", "stack", "component", "tests")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it finds what it needs, and where it works."""
    parser.add_argument("--release", help="the built release, the folder with parts/ (default: $ERP5_RELEASE)")
    parser.add_argument("--python", help="a Python with our dependencies (default: env/bin/python beside the release)")
    parser.add_argument("--directory", default="/tmp", help="where the temporary directory is made (default: /tmp)")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace, folder: Path, *command: str) -> int:
    """Run `python -m COMMAND` from the checkout, in the temporary `folder`; as the release's owner when we are root."""
    release = Path(given.release or os.environ.get("ERP5_RELEASE") or "/none").absolute()
    if not (release / "parts/mariadb/bin/mariadb-backup").exists():
        parser.error(f"{release} is no built release: run bin/test, and give --release DIRECTORY/release")
    source, account = ROOT, {}
    if os.getuid() == 0:
        owner = release.stat()
        source = folder / "src"  # the checkout may lie where that account cannot read
        for name in NEEDED:
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ERP5_RELEASE": str(release),
    }
    python = given.python or str(release.parent / "env/bin/python")
    child = subprocess.Popen([python, "-m", *command], cwd=folder, env=environment, **account)
    try:
        return child.wait()
    finally:
        child.terminate()  # no effect on one that has ended
        child.wait()
