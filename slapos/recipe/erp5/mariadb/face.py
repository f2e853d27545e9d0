# SPDX-License-Identifier: GPL-2.0-or-later
"""What the control page shows of a MariaDB partition, in words; pure functions of its facts."""

from collections.abc import Iterator

from slapos.recipe.erp5.control import plot
from slapos.recipe.erp5.control.face import Face, Figures, Row, moment
from slapos.recipe.erp5.mariadb.facts import Backup, Facts, Server, Service, Source
from slapos.recipe.erp5.words import size_text

USUAL = {"replica": ("takeover", "switchover", "follow", "detach"), "primary": ("fence", "resume", "rejoin")}
"""The actions that a role calls for; the others are further down."""


def of(facts: Facts) -> Face:
    """All of it."""
    return Face(
        role=_role(facts),
        aside=_aside(facts.server),
        figures=_figures(facts, facts.source) if facts.source else None,
        usual=USUAL.get(facts.server.role, ()),
        details=tuple(_details(facts)),
        care_title="Promises, backups, certificates",
        care=tuple(_care(facts)),
    )


def _role(facts: Facts) -> str:
    if facts.source:
        return f"Replica of {facts.source.address}"
    return "Primary" if facts.server.role == "primary" else "No answer from the database"


def _aside(server: Server) -> str:
    if server.writable is None:
        return ""
    return "takes writes" if server.writable else "read-only"


def _figures(facts: Facts, source: Source) -> Figures:
    lag = "not known" if source.lag is None else plot.duration(source.lag)
    behind = "not known" if source.behind is None else f"{source.behind} transactions"
    return Figures("Replication", (Row("Lag", lag), Row("Not yet here", behind)), plot.plot(facts.samples, facts.now))


def _details(facts: Facts) -> Iterator[Row]:
    server, source = facts.server, facts.source
    yield Row("Role asked for", facts.requested)
    if source:
        yield Row("Follows", f"{source.address} as {source.user}, {'over TLS' if source.tls else 'without TLS'}")
        yield Row("Receiving", source.receiving)
        yield Row("Applying", source.applying)
        yield Row("GTID of the primary", source.primary or f"not known: {source.error}", code=True)
        yield Row("GTID received", source.received or "none", code=True)
        yield Row("GTID applied", server.applied or "none", code=True)
    yield Row("GTID written here", server.written or "none", code=True)
    yield Row("Replicas connected", ", ".join(map(str, server.replicas)) or "none")
    yield Row("Server", server.error or f"{server.version}, id {server.server_id}")
    if facts.service:
        yield Row("Service", _service(facts.service))


def _service(service: Service) -> str:
    since = f" since {moment(service.since)}" if service.since else ""
    ends = f"; ended {len(service.ends)} times, last {service.ends[-1]}" if service.ends else ""
    return f"{service.state}{since}{ends}"


def _care(facts: Facts) -> Iterator[Row]:
    for backup in facts.backups:
        yield Row(backup.kind, _backup(backup))
    for certificate in facts.certificates:
        yield Row(certificate.name, certificate.problem or f"until {moment(certificate.until)}")


def _backup(backup: Backup) -> str:
    made = f"{moment(backup.at)}, {size_text(backup.size)}" if backup.at else "none yet"
    failed = f"; the last one failed: {backup.message}" if backup.message else ""
    following = f"; next {moment(backup.next)}" if backup.next else ""
    return f"{made}{failed}{following}"
