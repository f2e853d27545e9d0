# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a balancer does its work: pure functions, in sentences for a promise."""

from collections.abc import Iterator, Sequence

from slapos.recipe.erp5 import supervisor_verdict
from slapos.recipe.erp5.balancer.config import Family
from slapos.recipe.erp5.balancer.status import Server, Snapshot
from slapos.recipe.erp5.verdict import Verdict, judge


def balancer(snapshot: Snapshot) -> Verdict:
    """Whether haproxy answers, and each family has a Zope that serves or stands by."""
    families = [_family(snapshot, family) for family in snapshot.config.families]
    summary = "; ".join(families) or "there is no family yet"
    return judge(_problems(snapshot), summary + supervisor_verdict.note(snapshot.supervised))


def _problems(snapshot: Snapshot) -> Iterator[str]:
    config = snapshot.config
    supervised = supervisor_verdict.problem(config.service, snapshot.supervised, snapshot.now)
    if supervised:
        yield supervised
    if snapshot.silence:
        if not supervised:
            yield (
                f"haproxy does not answer on {config.socket} ({snapshot.silence}), expected it to run: read the log of"
                " the service balancer, and process the instance (slapos node instance --all) when that does not run"
            )
        return
    if snapshot.refusal:
        yield f"haproxy goes on with an earlier configuration, expected it to take the last one: {snapshot.refusal}"
    for family in config.families:
        yield from _family_problems(snapshot, family)


def _family_problems(snapshot: Snapshot, family: Family) -> Iterator[str]:
    if family.name not in snapshot.families:
        if not snapshot.refusal:
            yield (
                f"the family {family.name} is not offered, expected it at port {family.port}: see who else has the"
                f" port, then write restart into {snapshot.config.service.fifo}"
            )
        return
    if not family.addresses:
        yield (
            f"the family {family.name} has no Zope, expected one at least: all that asks for it is answered 503; give"
            " its addresses, or leave the family out"
        )
        return
    servers = _of(snapshot, family)
    other = {server.address for server in servers} ^ {name_of(address) for address in family.addresses}
    if other and not snapshot.refusal:
        yield (
            f"haproxy does not have the Zopes of the family {family.name} that it was given (it differs by"
            f" {', '.join(sorted(other))}), expected it to take a new list within seconds: see the log of the service"
            " balancer, process the instance (slapos node instance) in case that was interrupted, or write restart into"
            f" {snapshot.config.service.fifo}"
        )
    if servers and not any(server.serves or server.stands_by for server in servers):
        yield (
            f"none of the Zopes of the family {family.name} answers: {_silent(servers)}; expected one that serves or"
            " stands by: see the promises of their partitions"
        )


def _family(snapshot: Snapshot, family: Family) -> str:
    servers = _of(snapshot, family)
    serving = sum(server.serves for server in servers)
    text = f"family {family.name}: {serving} of {len(servers)} {'Zope serves' if len(servers) == 1 else 'Zopes serve'}"
    standing = sum(server.stands_by for server in servers)
    if standing:
        text += f", {standing} {'stands' if standing == 1 else 'stand'} by"
    silent = _silent(servers)
    return text + (f", and of {silent} there is no answer" if silent else "")


def name_of(address: str) -> str:
    """What haproxy.cfg.in calls the server at an address."""
    return address.replace("[", "").replace("]", "")


def _of(snapshot: Snapshot, family: Family) -> Sequence[Server]:
    return [server for server in snapshot.servers if server.family == family.name]


def _silent(servers: Sequence[Server]) -> str:
    silent = [server for server in servers if not (server.serves or server.stands_by)]
    return ", ".join(f"{server.address} ({server.detail})" for server in silent)
