# SPDX-License-Identifier: GPL-2.0-or-later
"""Chooses a C compiler of the machine that is old enough for extensions of Python 2.7."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence

import zc.buildout

HEADER = "#include <stdlib.h>\n"


def gather(candidates: Sequence[str]) -> dict[str, str]:
    """The version of each candidate that is there, by its path, in the order of the candidates."""
    paths = dict.fromkeys(filter(None, map(shutil.which, candidates)))
    return {path: _output(path, "-dumpversion").strip() for path in paths}


def choose(found: Mapping[str, str], newest: int, candidates: Sequence[str]) -> str:
    """The first compiler that is not newer than the newest major version that will do."""
    for path, version in found.items():
        major = version.split(".")[0]
        if major.isdigit() and int(major) <= newest:
            return path
    if not found:
        raise zc.buildout.UserError(
            f"No C compiler was found ({', '.join(candidates)}): install gcc and libc6-dev, "
            "or name a compiler in `executable` of the section [gcc]."
        )
    observed = ", ".join(f"{path} is version {version or 'unknown'}" for path, version in found.items())
    raise zc.buildout.UserError(
        f"{observed}, but {newest} is the newest that is known to compile these eggs: install gcc-{newest}, "
        "or name a compiler in `executable` of the section [gcc] to use it all the same."
    )


def find(executable: str, candidates: Sequence[str], newest: int) -> str:
    """The compiler that was named, or the one that is chosen; refuses one that lacks the C library's headers."""
    compiler = executable or choose(gather(candidates), newest, candidates)
    path = shutil.which(compiler)
    if not path:
        raise zc.buildout.UserError(
            f"The C compiler {compiler} is not there: correct `executable` of the section [gcc]."
        )
    if not _output(path, "-E", "-", text=HEADER):
        raise zc.buildout.UserError(f"The C compiler {path} does not find stdlib.h: install libc6-dev.")
    return path


def _output(*command: str, text: str = "") -> str:
    """What a command prints, nothing when it fails."""
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    return result.stdout if result.returncode == 0 else ""
