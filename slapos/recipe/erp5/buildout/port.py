# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `port`: a TCP port that is chosen, or given by a parameter, and then kept for ever."""

import errno
import re
import socket
import zlib
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import process

LOWEST, HIGHEST = 1024, 65535
CLASSES = 500
"""Partitions whose numbers differ modulo this never choose the same port, even before their services listen."""

# Whose each port is that this processing has given out: services of one partition do not listen yet either.
_given: dict[int, Path] = {}


class Recipe:
    """Options in: `range` ("20000-21999", to choose from), `ip` (addresses, one a line, or a collection of them),
    `parameter` (its name, for messages), `requested` (its value: a port, or empty), `storage-path` (the file that keeps
    the choice), `partition` ("slappart3"; by default the name of the buildout directory), `width` (how many ports in
    a row the service takes, of which the first is chosen; 1 by default) and `classes` (fewer than CLASSES leave each
    partition more to choose from).

    Option out, set while the section is initialised: `port` (str). It changes only when another one is requested; a
    parameter that is left out later changes nothing. Raises UserError, one sentence naming the parameter. The file is
    written when the part is installed: a request that another section refuses changes nothing.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.storage = Path(options["storage-path"])
        width = int(options.get("width", "1"))
        partition = options.get("partition") or Path(buildout["buildout"]["directory"]).name
        self.port = choose(
            self.storage,
            requested=parse_port(options.get("requested"), options["parameter"]),
            parameter=options["parameter"],
            addresses=addresses(options["ip"]),
            candidates=candidates(options["range"], partition, width, int(options.get("classes", CLASSES))),
            width=width,
            choice=f"{options['range']} that partition {partition} may use",
        )
        options["port"] = str(self.port)

    def install(self) -> tuple[str, ...]:
        keep(self.storage, self.port)
        return ()

    update = install


def choose(
    storage: Path,
    *,
    requested: int | None,
    parameter: str,
    addresses: list[str],
    candidates: Iterable[int],
    choice: str,
    width: int = 1,
) -> int:
    """Return the port of a service: the kept one unless another is requested, else the first free candidate."""
    kept = load(storage)
    port = kept if requested is None else requested
    if port is None:
        port = next((c for c in candidates if _is_ours(c, storage) and not _busy(c, width, addresses)), None)
        if port is None:
            raise UserError(
                f"{parameter}: none of the ports of {choice} is free on {' and '.join(addresses)};"
                " give a free port in the parameter."
            )
    elif port != kept:
        _check_free(port, parameter, addresses, storage)
    _given[port] = storage
    return port


def keep(storage: Path, port: int) -> None:
    """Write the choice down. Raises UserError."""
    if load(storage) != port:
        storage.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        process.write_atomically(storage, f"{port}\n")


def load(storage: Path) -> int | None:
    """Return the port that a file keeps, None when there is no file. Raises UserError when it holds anything else."""
    try:
        content = storage.read_text()
    except FileNotFoundError:
        return None
    if not re.fullmatch(r"[0-9]{1,5}\n?", content):
        raise UserError(f"{storage} should hold a port but does not; remove it to have a port chosen.")
    return int(content)


def parse_port(requested: Any, parameter: str) -> int | None:
    """Return what a parameter requests, None when it is empty. Raises UserError when no service could have it."""
    text = "" if requested is None else str(requested).strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or not LOWEST <= int(text) <= HIGHEST:
        raise UserError(
            f"{parameter}: {text} is not a port between {LOWEST} and {HIGHEST};"
            " give one, or leave the parameter out to have one chosen."
        )
    return int(text)


def addresses(option: Any) -> list[str]:
    """Return the addresses of the option `ip`: text, or a collection as slapos.cookbook:slapconfiguration gives it."""
    return option.split() if isinstance(option, str) else sorted(option)


def candidates(ports: str, partition: str, width: int = 1, classes: int = CLASSES) -> Iterator[int]:
    """Give the ports of a range ("20000-21999") that a partition may choose, in order; each begins `width` of them."""
    first, last = (int(end) for end in ports.split("-"))
    classes = min(classes, (last - first + 1) // width)
    return iter(range(first + partition_index(partition) % classes * width, last + 2 - width, classes * width))


def partition_index(partition: str) -> int:
    """Return the number at the end of a partition's name, or one made of the name when it has none."""
    number = re.search(r"[0-9]+$", partition)
    return int(number.group()) if number else zlib.crc32(partition.encode())


def busy_address(port: int, addresses: Iterable[str]) -> str | None:
    """Return the first of the addresses on which the port cannot be had because somebody has it, None if it is free."""
    return next((address for address in addresses if _is_busy(port, address)), None)


def _busy(port: int, width: int, addresses: list[str]) -> bool:
    return any(busy_address(one, addresses) for one in range(port, port + width))


def _is_busy(port: int, address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # On Linux this lets past what a closed connection leaves behind (TIME_WAIT), and no socket that listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise UserError(f"No port can be had on {address}: {error.strerror}.") from error
    return False


def _is_ours(port: int, storage: Path) -> bool:
    return _given.get(port, storage) == storage


def _check_free(port: int, parameter: str, addresses: list[str], storage: Path) -> None:
    busy = busy_address(port, addresses) if _is_ours(port, storage) else addresses[0]
    if busy:
        raise UserError(
            f"{parameter}: {port} is already in use on {busy};"
            " give a free port, or leave the parameter out to have one chosen."
        )
