# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether the role that the database has is the one that is asked for, and what a role change left to do."""

from collections.abc import Iterator

from slapos.recipe.erp5.mariadb.replication_status import Own, ReplicationStatus
from slapos.recipe.erp5.mariadb.sql_replication import Source

CREATION = "takes effect at the database's creation alone"
ANEW = (
    "have the replica made anew (stop the service, move srv/mariadb away, start it; with replication.bootstrap-url it "
    "begins from a backup)"
)
NOTHING_RESTARTS = "which restarts nothing"
TAKEN = {
    "takeover": "was taken over at {at} (it was a replica of {before} before)",
    "switchover": "exchanged its role with {before} at {at} (it was its replica before)",
    "detach": "was detached at {at} (it was a replica of {before} before)",
}
"""What made a replica a primary, by the action's name."""


def problems(status: ReplicationStatus, own: Own) -> Iterator[str]:
    """What is wrong with the role."""
    if own.sources:
        yield from _replica_problems(status, own.sources[0])
    else:
        yield from _primary_problems(status)
    yield from _unfinished(status)
    yield from _fence_problems(status, own)


def _primary_problems(status: ReplicationStatus) -> Iterator[str]:
    asked, last = status.asked, status.role.last
    if asked is None:
        return
    if last and not last.primary_url_now and last.action in TAKEN:
        what = TAKEN[last.action].format(at=last.at, before=last.from_address)
        yield (
            f"this database {what} and is a primary now, while replication.primary-url still asks for a replica of "
            f"{asked.address}, expected parameters that say what it is: remove the parameter replication, "
            f"{NOTHING_RESTARTS}{_unfenced(status)}"
        )
        return
    begun = status.begun
    why = f"it was made as a replica of {begun.primary} and is none any more" if begun else "it was made as a primary"
    yield (
        f"Mariadb is not in replica mode ({why}), expected a replica of {asked.address}, as "
        f"replication.primary-url says, which {CREATION}: take the parameter replication away to leave it a "
        f"primary, or {ANEW}"
    )


def _unfenced(status: ReplicationStatus) -> str:
    """What is to be said of an old primary that may still be writable."""
    pending, last = status.role.fence_pending, status.role.last
    if pending:
        return (
            f"; the old primary at {pending.address} is not fenced yet, as its control page has not answered since "
            f"{pending.since}: see that nobody writes to it, and mariadb-control goes on trying"
        )
    if last and last.unfenced:
        return f"; nobody has fenced the old primary at {last.from_address}: see that it does not come back as one"
    return ""


def _replica_problems(status: ReplicationStatus, source: Source) -> Iterator[str]:
    asked, last = status.asked, status.role.last
    if status.role.upstream and last:
        if asked is None or (asked.host, asked.port) != (source.host, source.port):
            parameter = (
                f"replication.primary-url still says {asked.address}" if asked else "there is no parameter replication"
            )
            yield (
                f"this database replicates from {source.address} since {last.at} (by {last.action}), while {parameter},"
                f" expected parameters that say what it is: set replication.primary-url to the replication-primary-url"
                f" of {source.address}, {NOTHING_RESTARTS}"
            )
    elif asked is None:
        yield (
            f"Mariadb is in replica mode, with {source.address} as its primary, expected a primary, as there is no "
            f"parameter replication, which {CREATION}: give replication.primary-url again to leave it a replica, or "
            "make it a primary with bin/mariadb-takeover"
        )


def _unfinished(status: ReplicationStatus) -> Iterator[str]:
    promotion = status.role.promotion
    if promotion and not status.acting:
        yield (
            f"the {promotion.action} that was begun at {promotion.at} did not come to its end, expected it to: run "
            f"bin/mariadb-{promotion.action} again, which completes it or begins anew"
        )


def _fence_problems(status: ReplicationStatus, own: Own) -> Iterator[str]:
    fenced, open_hand_over = status.role.fenced, status.role.hand_over
    if fenced is None or status.acting:
        return
    if open_hand_over:
        yield (
            f"this database refuses writes since {fenced.at}, to hand over to {open_hand_over.to_primary_url}, which "
            "does not answer, expected to hear how that ended: start that instance, and it is settled by itself; or, "
            "if that one is not the primary, bin/mariadb-resume --force here"
        )
    else:
        remedy = "bin/mariadb-resume, or bin/mariadb-rejoin if another database is the primary now"
        yield (
            f"this database is fenced and refuses writes since {fenced.at}, by {fenced.by} ({fenced.reason}), expected "
            f"a {'replica' if own.sources else 'primary'} without a fence: {remedy}"
        )
