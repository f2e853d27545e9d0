# SPDX-License-Identifier: GPL-2.0-or-later
"""Buildout recipe: a virtual environment of any Python, Python 2.7 too, with pinned eggs, as one part.

Options:
  python               the interpreter
  python-version       what it has to be: `2.7`, or `3` for any 3
  pins                 files of pip's, one a line: every distribution, pinned, with checksums; nothing else is
                       installed; what two of them pin is as the later one has it
  source               in place of or after `pins`: a requirement as pip takes it, whose dependencies pip resolves
  build-first          pinned distributions that others need to be built, a step a line
  commands             programs that builds ask, one a line, `name=path`
  libraries            folders; what is compiled finds the libraries below them
  imports              modules that must be importable in the end
  compiler, compiler-candidates, compiler-newest   see compiler.find
  virtualenv-pins      the same as `pins`, for virtualenv itself, which runs on the Python that runs buildout

Set by the recipe: location, bin, python-executable. The part is built beside its place and renamed. It is kept as
long as nothing that it is made of changes, which `environment.json` in it tells; remove the part to have it built
again.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5.buildout import compiler, debian_tree

logger = logging.getLogger(__name__)

RECORD = "environment.json"
# Of the Python that runs buildout; it would mislead another one.
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "PIP_REQUIRE_VIRTUALENV")
NEEDED_MODULES = ("ctypes", "sqlite3", "ssl")
PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.prefix)"
HOST_PREFIXES = ("/usr", "/usr/local", "/")
LAST_LINES = 3


def parse_pins(text: str) -> dict[str, str]:
    """The entries of a file of pip's by normalised name, each with its checksums; refuses one that is not pinned."""
    entries = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.match(r"\s*([A-Za-z0-9][\w.-]*)==\S+\s", line + " ")
        if not match or "--hash=sha256:" not in line:
            raise UserError(f"{line.strip()!r} is not pinned: write `name==version --hash=sha256:...`.")
        entries[normalised(match[1])] = " ".join(line.split())
    return entries


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def steps(pins: Mapping[str, str], build_first: str) -> list[list[str]]:
    """The entries to install in each step: those that others need to be built, then all the rest."""
    rest = dict(pins)
    result = []
    for line in filter(str.strip, build_first.splitlines()):
        names = [normalised(name) for name in line.split()]
        missing = [name for name in names if name not in rest]
        if missing:
            raise UserError(
                f"`build-first` names {', '.join(missing)}, which `pins` does not have, or has been named before."
            )
        result.append([rest.pop(name) for name in names])
    return [*result, *([list(rest.values())] if rest else [])]


def check_python(python: str, version: str, wanted: str, missing: Sequence[str], section: str) -> None:
    """Refuses an interpreter of another version, or one that lacks modules."""
    if version != wanted and not version.startswith(wanted + "."):
        observed = f"{python} is Python {version or 'of an unknown version'}"
    elif missing:
        observed = f"{python} lacks the modules {', '.join(missing)}"
    else:
        return
    raise UserError(
        f"{observed}, but section [{section}] needs Python {wanted} with {', '.join(NEEDED_MODULES)}: "
        "name another one in `executable` of the section that the option `python` refers to."
    )


def last_words(output: str) -> str:
    """The lines at the end of pip's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and "DEPRECATION" not in line]
    errors = [line for line in lines if re.match(r"(\w*Error|ERROR|error|fatal error|.*: (fatal )?error):", line)]
    return " / ".join((errors or lines or ["it said nothing"])[-LAST_LINES:])


def library_path(file: Path, needed: Sequence[str], folders: Mapping[str, Path]) -> str:
    """Where a file finds those of its libraries that are known, relative to itself."""
    wanted = dict.fromkeys(folders[name] for name in needed if name in folders)
    relative = (os.path.relpath(folder, file.parent) for folder in wanted)
    return ":".join("$ORIGIN" if path == "." else f"$ORIGIN/{path}" for path in relative)


class Recipe:
    """See the module's text."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, str]) -> None:
        self.name, self.options = name, options
        location = options.get("location") or str(Path(buildout["buildout"]["parts-directory"], name))
        options["location"] = location
        options["bin"] = f"{location}/bin"
        options["python-executable"] = f"{location}/bin/python"
        self.location = Path(location)
        self.log = Path(f"{location}.log")
        if not options.get("pins") and not options.get("source"):
            raise UserError(f"Section [{name}] names nothing to install: set its option `pins` or `source`.")

    def install(self) -> tuple[()]:
        """Keeps what is there when it is made of the same; nothing is told to buildout, which would remove it first."""
        want = self._ingredients()
        if self._record().get("ingredients") != want:
            self._replace(want)
        return ()

    update = install

    def _ingredients(self) -> dict[str, str]:
        files = [*self._pin_files(), self.options["virtualenv-pins"], __file__]
        keys = ("python", "source", "build-first", "commands", "libraries", "imports", "compiler")
        return {
            "files": _digest("".join(map(_read, files))),
            "location": str(self.location),
            **{key: self.options.get(key, "") for key in keys},
        }

    def _pin_files(self) -> list[str]:
        return [path for path in map(str.strip, self.options.get("pins", "").splitlines()) if path]

    def _record(self) -> dict[str, Any]:
        try:
            return json.loads((self.location / RECORD).read_text())
        except (OSError, ValueError):
            return {}

    def _replace(self, ingredients: dict[str, str]) -> None:
        start = time.monotonic()
        new = Path(f"{self.location}.new")
        _remove(new)
        self.log.unlink(missing_ok=True)
        umask = os.umask(0o022)  # partitions run as other accounts: what is built here is for all to read
        try:
            installed = self._build(new)
            record = {"ingredients": ingredients, "installed": installed}
            (new / RECORD).write_text(json.dumps(record, indent=2) + "\n")
            _remove(self.location)
            new.rename(self.location)
        finally:
            os.umask(umask)
            _remove(new)
        logger.info("%s: %d distributions in %.1f s.", self.name, len(installed), time.monotonic() - start)

    def _build(self, new: Path) -> list[str]:
        pins = parse_pins("\n".join(map(_read, self._pin_files())))
        batches = steps(pins, self.options.get("build-first", ""))
        prefix = self._check_interpreter()
        chosen = compiler.find(
            self.options.get("compiler", ""),
            self.options["compiler-candidates"].split(),
            int(self.options["compiler-newest"]),
        )
        with tempfile.TemporaryDirectory(prefix="python-environment-") as name:
            self._make_environment(new, Path(name))
            environment = self._build_environment(prefix, chosen, Path(name))
            python = str(new / "bin/python")
            pip = [python, "-m", "pip", "--disable-pip-version-check"]
            self._install_distributions([*pip, "install"], batches, environment, Path(name))
            self._run([*pip, "check"], "have all that the distributions need", environment)
            self._set_library_paths(new, prefix)
            self._compile_library(python, prefix)
            for module in self.options.get("imports", "").split():
                self._run([python, "-c", f"import {module}"], f"import {module} in the new environment", {})
            frozen = self._run([*pip, "freeze", "--all"], "list what is installed", environment)
        _readdress(new / "bin", str(new), str(self.location))
        return [line for line in frozen.splitlines() if re.match(r"[A-Za-z0-9].*(==| @ )", line)]

    def _install_distributions(
        self, install: Sequence[str], batches: Sequence[Sequence[str]], environment: Mapping[str, str], folder: Path
    ) -> None:
        for number, batch in enumerate(batches):
            requirements = folder / f"step-{number}.txt"
            requirements.write_text("\n".join(batch) + "\n")
            # All pins are listed, so no dependency is ever resolved, and what builds need is pinned as well.
            options = ["--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(requirements)]
            pins = " and ".join(self._pin_files())
            self._run([*install, *options], f"install the distributions that are pinned in {pins}", environment)
        source = self.options.get("source")
        if source:
            self._run([*install, source], f"install {source}", environment)

    def _check_interpreter(self) -> str:
        """Gives the prefix of the interpreter when it is as it should be."""
        python = self.options["python"]
        version, prefix = (_output([python, "-c", PROBE]).split("\n") + ["", ""])[:2]
        missing = [name for name in NEEDED_MODULES if not _succeeds([python, "-c", f"import {name}"])]
        check_python(python, version, self.options["python-version"], missing, self.name)
        return prefix

    def _make_environment(self, new: Path, folder: Path) -> None:
        tools, pins = folder / "virtualenv", self.options["virtualenv-pins"]
        environment = {"VIRTUALENV_OVERRIDE_APP_DATA": str(folder / "data"), "PYTHONPATH": str(tools)}
        options = ["--quiet", "--no-deps", "--require-hashes", "--target", str(tools), "-r", pins]
        self._run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options], "install virtualenv", {}
        )
        self._run(
            [sys.executable, "-m", "virtualenv", "--no-download", "-p", self.options["python"], str(new)],
            f"make an environment of {self.options['python']}",
            environment,
        )

    def _build_environment(self, prefix: str, chosen: str, folder: Path) -> dict[str, str]:
        programs = folder / "bin"
        programs.mkdir()
        for line in filter(None, map(str.strip, self.options.get("commands", "").splitlines())):
            name, _, path = line.partition("=")
            # Not a link: a program may look beside the name by which it was called.
            (programs / name).write_text(f'#!/bin/sh\nexec {path} "$@"\n')
            (programs / name).chmod(0o755)
        headers = [str(path) for path in (Path(prefix, "include"), *sorted(Path(prefix, "include").glob("python*")))]
        return {
            "CC": chosen,
            "LDSHARED": f"{chosen} -pthread -shared",
            "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
            **({} if prefix in HOST_PREFIXES else {"CPATH": ":".join(headers)}),
        }

    def _set_library_paths(self, new: Path, prefix: str) -> None:
        patchelf = debian_tree.find_patchelf(self.options.get("patchelf", ""))
        folders = dict(debian_tree.library_folders(new))
        base = [] if prefix in HOST_PREFIXES else [f"{prefix}/lib"]
        for folder in [*base, *self.options.get("libraries", "").split()]:
            for name, place in debian_tree.library_folders(Path(folder)).items():
                folders.setdefault(name, place)
        for file in filter(debian_tree.is_elf, debian_tree.walk(new)):
            path = library_path(file, debian_tree.needed_libraries(patchelf, file), folders)
            if path:
                self._run([patchelf, "--set-rpath", path, str(file)], f"set the library path of {file}", {})

    def _compile_library(self, python: str, prefix: str) -> None:
        """Debian compiles a package's modules when it installs it; ours is unpacked, and a partition cannot write."""
        library = next(Path(prefix, "lib").glob(f"python{self.options['python-version']}"), None)
        if library and prefix not in HOST_PREFIXES and os.access(library, os.W_OK):
            with contextlib.suppress(UserError):  # some test modules are wrong on purpose
                self._run([python, "-m", "compileall", "-q", str(library)], "compile the library", {})

    def _run(self, command: Sequence[str], attempt: str, environment: Mapping[str, str]) -> str:
        """Gives what a command prints; all of it goes to the log as well. Secrets stay in the environment."""
        inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        result = subprocess.run(
            command,
            env={**inherited, **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        with self.log.open("a") as log:
            log.write(f"== {attempt}\n{result.stdout}")
        if result.returncode:
            words = last_words(result.stdout)
            raise UserError(f"Section [{self.name}] cannot {attempt}: {words}. All that was said is in {self.log}.")
        return result.stdout


def _readdress(folder: Path, old: str, new: str) -> None:
    """Makes the scripts of a folder name the place where they will be."""
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file() or debian_tree.is_elf(path):
            continue
        content = path.read_bytes()
        if old.encode() in content:
            path.write_bytes(content.replace(old.encode(), new.encode()))


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): it should list what to install.") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _output(command: Sequence[str]) -> str:
    try:
        result = subprocess.run(command, env={}, capture_output=True, text=True)
    except OSError:
        return ""
    return result.stdout if result.returncode == 0 else ""


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, env={}, capture_output=True).returncode == 0
    except OSError:
        return False
