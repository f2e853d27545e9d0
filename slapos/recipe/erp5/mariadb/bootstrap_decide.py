# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ways there are to make a new replica, best first, and which of them can work: pure functions of a snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slapos.recipe.erp5.mariadb import chain, decide, gtid, manifest, source
from slapos.recipe.erp5.mariadb.manifest import LOGICAL, Entry
from slapos.recipe.erp5.mariadb.source import Method, Source


@dataclass(frozen=True)
class Way:
    """One way to make a replica: `entries` is a chain of physical backups or one listed dump.

    A dump without entries is the plain file that the URL names.
    """

    method: Method
    entries: tuple[Entry, ...] = ()

    @property
    def gtid(self) -> str | None:
        """Where replication would begin; None when that is known only afterwards."""
        if self.method == Method.LOGS:
            return ""
        return self.entries[-1].gtid if self.entries else None

    def __str__(self) -> str:
        return f"{self.method.words} {self.entries[-1].name}" if self.entries else self.method.words


@dataclass(frozen=True)
class World:
    """What there is: `source` and its `ways` (none without a bootstrap URL), both servers' versions.

    `refused` has MariaDB's own words for each GTID position from which the primary cannot be followed; `no_list` says
    why there is no list of backups, where a live copy may be had all the same; `primary_gtid` is how far the primary
    is, and `primary_state` how far each server was that wrote into its binary log; `server_id` is ours.
    """

    primary: str  # its host:port
    primary_version: str
    our_version: str
    source: Source | None
    ways: tuple[Way, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    no_list: str = ""
    primary_gtid: str = ""
    primary_state: str = ""
    server_id: int = 0


@dataclass(frozen=True)
class Plan:
    """What to try, in order; why other ways are `left_out`; or, when nothing can work, one sentence."""

    ways: tuple[Way, ...]
    left_out: tuple[str, ...] = ()
    refusal: str = ""


def ways(where: Source | None, listed: tuple[Entry, ...] = ()) -> tuple[Way, ...]:
    """What the URL offers, best first, of what its list has."""
    if where is None:
        return (Way(Method.LOGS),)
    if where.kind == source.PLAIN:
        return (Way(Method.DUMP),)
    whole = chain.whole(listed)
    if where.kind == source.NAMED:
        return tuple(_way(entry, whole) for entry in whole if entry.name == where.name)
    physical = manifest.newest(entry for entry in whole if entry.physical)
    dump = manifest.newest(entry for entry in whole if entry.kind == LOGICAL)
    found = {
        Method.LIVE: Way(Method.LIVE),
        Method.PHYSICAL: _way(physical, whole) if physical else None,
        Method.DUMP: _way(dump, whole) if dump else None,
    }
    return tuple(way for kind, way in found.items() if way and where.kind in (kind, source.ANY))


def _way(entry: Entry, whole: tuple[Entry, ...]) -> Way:
    return Way(Method.PHYSICAL, chain.of(entry, whole)) if entry.physical else Way(Method.DUMP, (entry,))


def plan(world: World) -> Plan:
    """What to try of `world.ways`."""
    reasons = {way: _obstacle(way, world) for way in world.ways}
    possible = tuple(way for way, reason in reasons.items() if not reason)
    left_out = tuple(reason for reason in (world.no_list, *reasons.values()) if reason)
    return Plan(possible, left_out, "" if possible else _refusal(world, left_out))


def _obstacle(way: Way, world: World) -> str:
    """Why a way cannot work; empty when nothing is known against it."""
    ours, words = world.our_version, world.refused.get(way.gtid or "") if way.gtid is not None else None
    theirs = world.primary_version if way.method == Method.LIVE else ""
    if way.entries:
        theirs = way.entries[-1].server_version
    if newer := decide.too_new(str(way), theirs, ours):
        return newer
    if way.method in (Method.LIVE, Method.PHYSICAL) and decide.series(theirs) != decide.series(ours):
        return f"{way} is of MariaDB {theirs}, which this {ours} cannot take as it is: make the replica of a dump"
    if words and way.method == Method.LOGS:
        return (
            f"the binary logs of {world.primary} do not begin where its database did ({words}): give"
            " replication.bootstrap-url, so that the replica begins with a backup"
        )
    if way.gtid == "" and way.method != Method.LOGS:
        return f"{way} has an empty GTID position: leave {source.PARAMETER} out, the binary logs have all"
    if words:
        return f"{world.primary} cannot be followed from {way}, whose GTID position is {way.gtid} ({words})"
    if way.gtid is None:
        return ""
    passed_over = skipped(way, way.gtid, world.primary, world.primary_state, world.server_id)
    return passed_over or (ahead(way, way.gtid, world.primary, world.primary_gtid) if way.gtid else "")


def ahead(way: Way, position: str, primary: str, theirs: str) -> str:
    """What is wrong when a position has what the primary, at `theirs`, has not; else empty. Raises ServerError.

    MariaDB lets a replica follow that has a domain which the primary never had.
    """
    if not gtid.is_ahead(gtid.parse(position), gtid.parse(theirs)):
        return ""
    return (
        f"{way} has the GTID position {position}, which is ahead of {primary} at {theirs or 'no position'}, expected"
        " what that primary, or a replica of it, has made"
    )


def skipped(way: Way, position: str, primary: str, state: str, server_id: int) -> str:
    """What is wrong when, behind `position`, there are transactions of our own server id; else empty.

    MariaDB passes over them, as if we had them already: an old primary that is made anew as a replica would silently
    lack what it wrote after that position. Raises ServerError.
    """
    reached = gtid.position(gtid.parse(position))
    ours = [one for one in gtid.parse(state) if one.server == server_id and one.sequence > reached.get(one.domain, 0)]
    if not ours:
        return ""
    return (
        f"{way} begins before {ours[0]}, which {primary} has from server id {server_id}, and that is ours, so that it"
        " would be passed over: give another server-id, or take a newer backup"
    )


def _refusal(world: World, left_out: tuple[str, ...]) -> str:
    where = world.source
    if where is None:
        return left_out[0]
    if not left_out:
        kinds = {Method.PHYSICAL: "whole physical backup", Method.DUMP: "dump", source.NAMED: where.name}
        return (
            f"{where.where} offers no {kinds.get(where.kind, 'backup')}: make one there, or give another"
            f" {source.PARAMETER}"
        )
    return (
        f"nothing that {where.where} offers can be used, {'; '.join(left_out)}: make a new backup there, or give"
        f" another {source.PARAMETER}"
    )
