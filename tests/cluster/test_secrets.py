# SPDX-License-Identifier: GPL-2.0-or-later
"""No secret of an instance is in any process's arguments, in a log, or in a file that others could read."""

import json
import os
import stat
import threading
from pathlib import Path

from tests.cluster.conftest import PASSWORD


def secrets_of(instance):
    configuration = json.loads((instance.path / "etc/mariadb.json").read_text())
    accounts = configuration["databases"] + configuration["test-databases"]
    return {*configuration["secrets"].values(), *(account["password"] for account in accounts)}


def arguments_of_all_processes():
    lines = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines[process.name] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return lines


def test_no_argument_holds_a_secret_even_while_things_happen(node, first):
    secrets, done = secrets_of(first), threading.Event()
    seen: list[str] = []
    assert PASSWORD in secrets

    def watch():
        while not done.wait(0.005):
            seen.extend(
                line for line in arguments_of_all_processes().values() if any(secret in line for secret in secrets)
            )

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        pid = first.pid()
        first.backup()
        assert first.program("mariadb-provision").returncode == 0
        node.slapos("supervisorctl", "restart", f"{first.path.name}:*")
        first.wait_until_green()
        assert first.pid() != pid
    finally:
        done.set()
        watcher.join()
    assert seen == []


def test_no_log_holds_a_secret(node, first):
    secrets = [secret.encode() for secret in secrets_of(first)]
    logs = [
        *first.path.glob("var/log/**/*"),
        *first.path.glob(".*.log*"),
        *(node.instances.parent / "var/log").glob("*"),
    ]
    logs = [path for path in logs if path.is_file()]
    assert len(logs) > 4
    assert [str(path) for path in logs if any(secret in path.read_bytes() for secret in secrets)] == []


def test_no_file_that_others_can_read_holds_a_secret(first):
    secrets = [secret.encode() for secret in secrets_of(first)]
    readable = []
    for folder, _, names in os.walk(first.path):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP):
                readable.append(path)
    assert [str(path) for path in readable if any(secret in path.read_bytes() for secret in secrets)] == []


def test_the_partition_says_so_itself(first):
    for name in (
        ".installed.cfg",
        ".installed-switch-software-type.cfg",
        "etc/mariadb.json",
        "etc/mariadb.cnf",
        "etc/nginx.conf",
    ):
        assert stat.S_IMODE((first.path / name).stat().st_mode) & 0o077 == 0, name
