# SPDX-License-Identifier: GPL-2.0-or-later
"""Becomes the ZEO server of a partition, with its configuration made anew: FileStorages in srv/zodb, one a name."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process
from slapos.recipe.erp5.zope.instance import quoted


@dataclass(frozen=True)
class Config:
    """What a ZEO partition is told: `runzeo` is the program, `storages` names the databases, clients as well name them;
    `invalidation_queue_size` counts transactions: a client that missed more of them drops its whole cache."""

    partition: str
    runzeo: str
    host: str
    port: int
    storages: tuple[str, ...]
    invalidation_queue_size: int

    def path(self, *parts: str) -> Path:
        return Path(self.partition, *parts)

    def storage(self, name: str) -> Path:
        return self.path("srv", "zodb", f"{name}.fs")


def zeo_conf(config: Config) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    storages = "".join(
        f"<filestorage {name}>\n  path {quoted(config.storage(name))}\n</filestorage>\n" for name in config.storages
    )
    return f"""\
<zeo>
  address {host}:{config.port}
  pid-filename {quoted(config.path("var", "run", "zeo.pid"))}
  invalidation-queue-size {config.invalidation_queue_size}
</zeo>
{storages}<eventlog>
  level info
  <logfile>
    path {quoted(config.path("var", "log", "zeo.log"))}
    format %(asctime)s %(levelname)s %(name)s %(message)s
  </logfile>
</eventlog>
"""


def main() -> int:
    """Exit codes: 1 when it cannot be started; from then on those of runzeo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    options = parser.parse_args()

    def become() -> None:
        config = shapes.load(options.config, Config)
        for folder in (config.path("srv", "zodb"), config.path("var", "log"), config.path("var", "run")):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = config.path("etc", "zeo.conf")
        process.write_atomically(path, zeo_conf(config), durable=False)
        with process.attempting(f"start {config.runzeo}"):
            os.execve(config.runzeo, [config.runzeo, "-C", str(path)], process.environment())

    return process.program(become)
