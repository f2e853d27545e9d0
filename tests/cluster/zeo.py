# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenarios of ZEO share: a requested server, and objects written and read by ZODB."""

from pathlib import Path

from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo.config import Config
from tests import zeo_client
from tests.cluster.node import Instance, eventually


class Zeo(Instance):
    """A requested ZEO server."""

    software_type = "zeo"

    @property
    def config(self) -> Config:
        return configuration.load(self.path / "etc/zeo.json")

    def client(self, do: str, *words: str, storage: str = "root") -> str:
        """Write a name and a value, or read; what is in the root then, as name=value."""
        config = self.config
        host, _, port = self.published["zeo-address"].rpartition(":")
        return zeo_client.run(config.software.program("python"), host.strip("[]"), port, storage, do, *words)

    def process(self) -> str:
        """Process its partition once, which has to succeed."""
        return self.node.process("--only-cp", self.path.name)

    def back_up(self) -> str:
        """A backup, now, once no other is under way; what the program says."""
        finished = eventually(
            lambda: (lambda made: None if made.returncode == 75 else made)(self.program("zeo-backup-now")),
            "no other backup is running",
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def service(self) -> Path:
        """The service of the server, whose name changes when what it reads at its start has changed."""
        (path,) = [path for path in (self.path / "etc/service").glob("zeo-*") if path.name != "zeo-control"]
        return path
