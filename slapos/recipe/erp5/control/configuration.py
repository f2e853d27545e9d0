# SPDX-License-Identifier: GPL-2.0-or-later
"""What everything here has to know of a partition: a service's own configuration has this, and more."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Places:
    """Where the files are that lie in the same place in every partition: for a service's configuration to inherit."""

    partition: str

    def path(self, *names: str) -> Path:
        """A file of the partition, such as path("srv", "role")."""
        return Path(self.partition, *names)

    @property
    def control_socket(self) -> Path:
        """Where the control process answers nginx."""
        return self.path("var", "run", "control.sock")

    @property
    def control_token(self) -> Path:
        """The token of the control page, which a program may replace at any time (token.py)."""
        return self.path("srv", "kept", "control-token")

    @property
    def scheduler_state(self) -> Path:
        """What the scheduler last did (state.py)."""
        return self.path("var", "run", "scheduler.json")


@dataclass(frozen=True)
class Control:
    """Where nginx answers for the control process."""

    host: str
    port: int


class Partition(Places):
    """What control/ knows of a partition whose nginx has the control process alone, but for its names."""

    control: Control

    @property
    def control_host(self) -> str:
        return self.control.host

    @property
    def control_port(self) -> int:
        return self.control.port


class Configuration(Protocol):
    """A frozen dataclass of the partition's JSON file (config.py), such as mariadb/config.py's Config."""

    @property
    def instance(self) -> str:
        """The instance's title."""

    @property
    def partition(self) -> str:
        """The partition's directory."""

    @property
    def prefix(self) -> str:
        """What the names of the service's programs begin with, as in bin/PREFIX-control-token."""

    @property
    def control_host(self) -> str:
        """The address, without brackets, at which the control page is published."""

    @property
    def control_port(self) -> int:
        """The control page's port, nginx's."""

    @property
    def control_socket(self) -> Path:
        """Where the control process answers nginx."""

    @property
    def control_token(self) -> Path:
        """The token of the control page, which a program may replace at any time (token.py)."""

    @property
    def scheduler_state(self) -> Path:
        """What the scheduler last did (state.py)."""

    def path(self, *names: str) -> Path:
        """A file of the partition, such as path("srv", "role")."""
