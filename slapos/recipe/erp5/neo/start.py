# SPDX-License-Identifier: GPL-2.0-or-later
"""Program neo-start: becomes one of a node's processes, with the arguments that its files ask for now.

What exists decides, and parameters only about what is new: a master follows what it was created to follow, and a
storage's database is made once.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo import logs, mysql, start_fence
from slapos.recipe.erp5.neo.config import ADMIN, MASTER, Followed, NodeConfig, Upstream, tls_options
from slapos.recipe.erp5.words import bracketed

HELP_TIMEOUT = 30.0
LOOK = 0.2
"""Seconds between two looks whether a process that waits may start."""


# ---- decide


def common(config: NodeConfig, name: str, port: int) -> tuple[str, ...]:
    """The options that all of NEO's processes have."""
    bind, masters = f"{bracketed(config.network.ip)}:{port}", " ".join(config.masters)
    tls = tls_options(config.tls_files)
    return ("--cluster", config.cluster, "--masters", masters, "--bind", bind, "--logfile", str(config.log(name)), *tls)


def program(config: NodeConfig, name: str) -> tuple[str, ...]:
    """What runs NEO's program `name`, such as neostorage; with TLS, what reads new certificates (py2/neo_tls.py)."""
    if not config.tls:
        return (config.software.program(name),)
    return (config.software.program("python"), config.software.tls_script, f"neo.scripts.{name}", "--")


def master_command(config: NodeConfig, upstream: Upstream | None, has_backup_option: bool) -> tuple[str, ...]:
    """The command of a master; `has_backup_option`: this NEO makes a new cluster a backup by itself."""
    options = (
        *common(config, MASTER, config.network.master_port),
        *("--partitions", str(config.partitions), "--replicas", str(config.replicas)),
        *(("--autostart", str(config.autostart)) if config.autostart else ()),
        *(("--upstream-cluster", upstream.cluster, "--upstream-masters", upstream.masters) if upstream else ()),
    )
    if has_backup_option:
        return (*program(config, "neomaster"), *options, *(("--backup",) if upstream else ()))
    script = Path(config.software.master_script)
    ours = (config.software.tls_script, script.stem, "--") if config.tls else (str(script),)
    return (config.software.program("python"), *ours, "--new-flag", str(config.new_flag), "--", *options)


def admin_command(config: NodeConfig) -> tuple[str, ...]:
    """The command of an admin."""
    return (*program(config, "neoadmin"), *common(config, ADMIN, config.network.admin_port))


def storage_command(config: NodeConfig, name: str) -> tuple[str, ...]:
    """The command of a storage such as `storage-0`."""
    port = config.network.storage_port + int(name.removeprefix("storage-"))
    return (
        *program(config, "neostorage"),
        *common(config, name, port),
        *engine_options(config, name),
    )


def engine_options(config: NodeConfig, name: str) -> tuple[str, ...]:
    """Where a storage keeps its data. With a server it reads so in a file, as that has a password, and waits for it."""
    if config.mysql:
        return ("--adapter", "MySQL", "--file", str(config.storage_file(name)), "--wait", "-1")
    return ("--adapter", "SQLite", "--database", str(config.database(name)))


def is_to_be_made(config: NodeConfig, name: str) -> bool:
    """Whether a storage's database has to be made. Raises Refused where it is gone: an empty one is not the same."""
    exists = config.has_database(name)
    if config.set_up(name).exists() and not exists:
        raise Refused(
            f"{config.database(name)} is not there, expected the database that was made once: bring it back; or, to"
            f" have an empty one in its place, which the cluster then fills, remove {config.set_up(name)}"
        )
    return not exists


# ---- act


def prepare_master(config: NodeConfig) -> Upstream | None:
    """Note at the master's creation what it is to follow; returns what it follows. Raises ConfigurationError."""
    if not config.upstream_file.exists():
        if config.upstream and config.founding:
            process.write_atomically(config.new_flag, "{}\n")
        shapes.save(config.upstream_file, Followed(config.upstream))  # last, as from here on it is created
    return shapes.load(config.upstream_file, Followed).upstream


def has_backup_option(config: NodeConfig) -> bool:
    """Whether this neomaster knows how to make a new cluster a backup. Raises CommandError."""
    command = [config.software.program("neomaster"), "--help"]
    said = process.run(command, "ask neomaster for its options", timeout=HELP_TIMEOUT)
    return b"--backup" in said.stdout


def prepare_storage(config: NodeConfig, name: str) -> None:
    """Make a storage's database where it never was made. Raises Refused, CommandError, ServerError."""
    database, mark = config.database(name), config.set_up(name)
    is_new = is_to_be_made(config, name)
    if config.mysql:
        mysql.prepare_storage(config, config.mysql, name, is_new)
    if is_new:
        with process.step(f"make {database}"):
            process.run([*storage_command(config, name), "--reset"], f"make {database}")
            process.sync_directory(database.parent)
    if not mark.exists():
        process.write_atomically(mark, times.text(times.now()) + "\n")


def prepared(config: NodeConfig, name: str) -> tuple[str, ...]:
    """Do what has to be done before the process `name` starts; returns its command. Raises Error."""
    if name not in config.names:
        raise Refused(f"this node has no {name}, expected one of {', '.join(config.names)}")
    if not config.masters:
        raise Refused("the cluster's masters are not known yet, expected their addresses: process the instance again")
    if name == MASTER:
        return master_command(config, prepare_master(config), has_backup_option(config))
    if name == ADMIN:
        return admin_command(config)
    prepare_storage(config, name)
    return storage_command(config, name)


def unfenced(path: str, name: str) -> NodeConfig:
    """The configuration at `path`, once the process `name` may run: a master waits while its cluster is fenced.

    Raises ConfigurationError.
    """
    return start_fence.wait(path) if name == MASTER else configuration.load_node(path)


def certified(config: NodeConfig) -> NodeConfig:
    """The same, once there is what the processes are given as certificates (neo/tls.py), before which they wait."""
    missing = [path for path in config.tls_files if not path.exists()]
    if missing:
        process.log(f"waiting for {missing[0]}, which the service neo-node-control gets from the cluster's authority")
    while not all(path.exists() for path in config.tls_files):
        time.sleep(LOOK)
    return config


def become(config: NodeConfig, name: str) -> None:
    """Replace this program by the process `name`. Raises Error, OSError."""
    os.umask(0o077)
    config.path("srv", "neo").mkdir(mode=0o700, parents=True, exist_ok=True)
    command = prepared(config, name)
    logs.rotate(config, name)
    logs.mend(config.log(name))
    with process.attempting(f"start {command[0]}"):
        os.execve(command[0], command, process.environment())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program's exit code, 1 with a sentence on stderr, where it does not become that process."""
    parser = argparse.ArgumentParser(prog="neo-start", description="Become a process of a NEO node.")
    parser.add_argument("--config", required=True, help="the partition's etc/neo-node.json")
    parser.add_argument("--node", required=True, help="master, admin, storage-0, storage-1 and so on")
    given = parser.parse_args(arguments)
    return process.program(lambda: become(certified(unfenced(given.config, given.node)), given.node))


if __name__ == "__main__":
    raise SystemExit(main())
