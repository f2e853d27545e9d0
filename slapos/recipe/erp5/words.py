# SPDX-License-Identifier: GPL-2.0-or-later
"""How sizes, times and addresses are written, in sentences for people and in URLs, by every service."""

from collections.abc import Sequence
from datetime import timedelta


def size_text(size: float) -> str:
    """Bytes for people, such as 1.4 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def duration(time: timedelta) -> str:
    """For people, in the largest unit of which there are two, such as 47 h."""
    seconds = int(time.total_seconds())
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def bracketed(host: str) -> str:
    """An address as URLs have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def listing(words: Sequence[str]) -> str:
    """One or more, such as a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
