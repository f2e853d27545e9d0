# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the machine's own apt sources and keeps Debian's entries: pure functions over text."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

# A suite is a release (by its code name, or as "stable") and an archive of that release.
# Backports and proposed updates are left out on purpose: nobody supports them like the rest.
ARCHIVES = ("", "-updates", "-security")
ALIASES = ("stable", "oldstable", "oldoldstable")


@dataclass(frozen=True)
class Entry:
    """One `deb` source as the machine's administrator wrote it."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One archive that packages are taken from."""

    uri: str
    suite: str


def parse_os_release(text: str) -> dict[str, str]:
    """The KEY=value lines of /etc/os-release."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): " ".join(shlex.split(value)) for key, _, value in pairs}


def parse_one_line(text: str) -> Iterator[Entry]:
    """Entries of a one-line style file, /etc/apt/sources.list for instance."""
    pattern = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)")
    for line in text.splitlines():
        match = pattern.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
            yield Entry(
                match["uri"],
                match["suite"],
                tuple(match["components"].split()),
                options.get("signed-by", ""),
                tuple(filter(None, options.get("arch", "").split(","))),
            )


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Stanzas in Debian's control format; field names in lower case, continuation lines joined."""
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                if name:
                    fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def parse_deb822(text: str) -> Iterator[Entry]:
    """Entries of a deb822 style file, /etc/apt/sources.list.d/debian.sources for instance."""
    for fields in parse_stanzas(text):
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Entry(
                    uri,
                    suite,
                    tuple(fields.get("components", "").split()),
                    fields.get("signed-by", ""),
                    tuple(fields.get("architectures", "").split()),
                )


def is_debian(entry: Entry, architecture: str) -> bool:
    """Whether an entry may be Debian's; apt's check of the signature decides for good."""
    if entry.architectures and architecture not in entry.architectures:
        return False
    if entry.uri.startswith("cdrom:") or "main" not in entry.components:
        return False
    return not entry.signed_by or all(
        PurePosixPath(word).name.startswith("debian-archive-") for word in entry.signed_by.split()
    )


def select_sources(entries: Iterable[Entry], codename: str, suite: str, architecture: str) -> list[Source]:
    """Debian's archives among the machine's entries, with the machine's release replaced by the suite wanted."""
    found: dict[Source, None] = {}
    for entry in entries:
        release, archive = split_suite(entry.suite)
        if release in (codename, suite, *ALIASES) and is_debian(entry, architecture):
            found[Source(entry.uri, suite + archive)] = None
    return list(found)


def split_suite(suite: str) -> tuple[str, str]:
    """`bookworm-security` gives (`bookworm`, `-security`); an archive that is not wanted, (``, ``)."""
    release, dash, archive = suite.partition("-")
    return (release, dash + archive) if dash + archive in ARCHIVES else ("", "")


def mirror_sources(mirror: str, security_mirror: str, suite: str) -> list[Source]:
    """The archives of a mirror that was given; security updates lie beside the main archive by custom."""
    main = mirror.rstrip("/")
    return [
        Source(main, suite),
        Source(main, suite + "-updates"),
        Source(security_mirror or main + "-security", suite + "-security"),
    ]


def render_sources(sources: Iterable[Source], keyring: str, architecture: str, components: str) -> str:
    """The private sources.list: each archive must be signed by the keyring, whatever the machine's entry allowed."""
    options = f"[arch={architecture} signed-by={keyring}]"
    return "".join(f"deb {options} {source.uri} {source.suite} {components}\n" for source in sources)
