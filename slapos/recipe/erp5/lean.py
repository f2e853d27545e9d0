# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a program that is always there with few modules: without site-packages, which cost 1.5 MiB."""

import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = str(Path(__file__).resolve().parents[3])
"""The folder that our package is in."""


def become(module: str) -> NoReturn:
    """Run `serve(arguments)` of a module of ours, which needs the standard library alone, in place of this process."""
    program = f"import sys; sys.path.insert(0, {ROOT!r}); from {module} import serve; sys.exit(serve(sys.argv[1:]))"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", "-c", program, *sys.argv[1:]])
