# SPDX-License-Identifier: GPL-2.0-or-later
"""A small JSON file that several programs and threads change, field by field, and that survives power cuts."""

import contextlib
import dataclasses
import fcntl
import os
import typing
from collections.abc import Iterator
from pathlib import Path

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process

T = typing.TypeVar("T")


class StateFile(typing.Generic[T]):
    """The file at `path`, of the frozen dataclass `cls`, whose fields all have defaults; its folder is made when"
    " missing."""

    def __init__(self, path: Path, cls: type[T]) -> None:
        self.path, self._cls = path, cls

    def load(self) -> T:
        """What it holds; the defaults when there is none. Raises ConfigurationError when it cannot be read."""
        return shapes.load(self.path, self._cls) if self.path.exists() else self._cls()

    def change(self, **fields: object) -> T:
        """Replace some fields of what it holds now; returns all of it. Raises ConfigurationError, OSError."""
        with self._locked():
            before = self.load()
            after = dataclasses.replace(before, **fields)  # type: ignore[type-var]
            if after != before:
                shapes.save(self.path, after)
        return after

    def folder(self) -> Path:
        """Its folder, made when it is missing."""
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            process.sync_directory(folder.parent)
        return folder

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time; waits for its turn."""
        descriptor = os.open(self.folder() / f"{self.path.stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
