# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `zope-instances`: the Zopes of all families, each with a port that it keeps by its name."""

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.buildout import port
from slapos.recipe.erp5.words import bracketed


class Recipe:
    """Options in: `families` (the parameter), `ip`, `partition` ("slappart3"), `range` and `classes` (as of the recipe
    `port`), and `folder`, where the files lie that keep the ports, and how each family was created.

    Options out, set while the section is initialised: `zopes` (objects as zope/config.py's Instance), `published` (the
    same for others: `name`, `family`, `address`), and `hold` (the families that were created held back). A port stays
    its Zope's, also while that is not asked for; families that are not asked for are forgotten. Raises UserError.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.folder, families = Path(options["folder"]), options["families"]
        self.created = created(load(self._families), families)
        self.kept = {port.load(path) for path in self.folder.glob("zope-port-*")}
        zopes = [zope for family in sorted(families) for zope in instances(family, families[family], options["ip"])]
        for zope in zopes:
            zope["port"] = self._port(zope["name"], options)
        self.ports = {zope["name"]: zope["port"] for zope in zopes}
        options["zopes"] = zopes
        options["published"] = [published(zope) for zope in zopes]
        options["hold"] = sorted(family for family, held in self.created.items() if held)

    @property
    def _families(self) -> Path:
        return self.folder / "zope-families.json"

    def _storage(self, name: str) -> Path:
        return self.folder / f"zope-port-{name}"

    def _port(self, name: str, options: Mapping[str, Any]) -> int:
        choice, partition = options["range"], options["partition"]
        candidates = port.candidates(choice, partition, classes=int(options["classes"]))
        return port.choose(
            self._storage(name),
            requested=None,
            parameter=f"port of the Zope {name}",
            addresses=[options["ip"]],
            candidates=(number for number in candidates if number not in self.kept),
            choice=f"{choice} that partition {partition} may use",
        )

    def install(self) -> tuple[str, ...]:
        for name, number in self.ports.items():
            port.keep(self._storage(name), number)
        if load(self._families) != self.created:
            process.write_atomically(self._families, json.dumps(self.created, indent=2, sort_keys=True) + "\n")
        return ()

    update = install


def load(path: Path) -> dict[str, bool]:
    """Whether each family was created held back; nothing before the first processing. Raises UserError."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} should hold how families were created but does not; remove it to have it written.")
    return found


def created(before: Mapping[str, bool], families: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """The same with new families, and without those that are gone: later changes of `hold` change nothing."""
    return {name: before.get(name, family["hold"]) for name, family in families.items()}


def instances(name: str, family: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """The Zopes of a family, but for their ports."""
    shared = {"family": name, "host": host, "threads": family["thread-amount"]}
    return [{"name": f"{name}-{number}", **shared} for number in range(family["instance-count"])]


def published(zope: Mapping[str, Any]) -> dict[str, str]:
    """What others are told of a Zope."""
    address = f"{bracketed(zope['host'])}:{zope['port']}"
    return {"name": zope["name"], "family": zope["family"], "address": address}
