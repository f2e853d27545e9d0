# SPDX-License-Identifier: GPL-2.0-or-later
"""Says whether a NEO cluster, and a node of it, is as it should be: pure functions, in sentences for a promise."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from slapos.recipe.erp5 import supervisor_verdict, times
from slapos.recipe.erp5.neo import role_verdict, tid
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.status import NodeSnapshot, ServiceStatus, Snapshot
from slapos.recipe.erp5.verdict import Verdict, judge
from slapos.recipe.erp5.words import duration, listing

RUNNING, BACKINGUP, STARTING_BACKUP, STOPPING_BACKUP = "RUNNING", "BACKINGUP", "STARTING_BACKUP", "STOPPING_BACKUP"
SERVING = (RUNNING, BACKINGUP, STARTING_BACKUP, STOPPING_BACKUP)
PENDING = "PENDING"


# ---- a cluster


def cluster(snapshot: Snapshot) -> Verdict:
    """Whether the cluster is what it was created to be, follows what it is a backup of, and has all its nodes."""
    return judge(_cluster_problems(snapshot), _cluster_summary(snapshot))


def is_taken_over(snapshot: Snapshot) -> bool:
    """Whether it was created as a backup and is none any more: only a takeover does that to one that is not empty."""
    status = snapshot.status
    return bool(snapshot.upstream and status.cluster_state == RUNNING and status.last_tid)


def lag(status: Status, now: datetime) -> timedelta | None:
    """How old what a backup lacks is, None when it has nothing yet or is no backup.

    While its upstream answers (BACKINGUP) it lacks nothing when it has the upstream's last transaction; while it does
    not, nobody knows, and it may lack all that is newer than what it has. For each new transaction of the upstream NEO
    puts what a backup has right before that, so that times without transactions do not count.
    """
    if not status.backup_tid:
        return None
    if status.cluster_state == BACKINGUP and status.last_tid is not None and status.backup_tid >= status.last_tid:
        return timedelta(0)
    return max(now - moment(status.backup_tid), timedelta(0))


def moment(number: int) -> datetime:
    """When a transaction was made."""
    return datetime.fromtimestamp(tid.to_time(number), UTC)


def _cluster_problems(snapshot: Snapshot) -> Iterator[str]:
    config, status = snapshot.config, snapshot.status
    waiting = "" if config.masters else "; no node starts anything before"
    homeless = [node.name for node in config.nodes if not node.has_partition and not node.published]
    if homeless:
        yield (
            f"{listing(homeless)} {_have(homeless)} no partition yet, expected the Master to give one: see that a"
            f" computer which fits (sla) has a free partition{waiting}"
        )
    absent = [node.name for node in config.nodes if not node.published and node.has_partition]
    if absent:
        yield (
            f"{listing(absent)} {_have(absent)} not published any addresses yet, expected all nodes to do so:"
            f" process the instances (slapos node instance){waiting}"
        )
    yield from config.differences
    if not config.masters:
        return
    yield from role_verdict.problems(snapshot)
    if not status.cluster_state:
        if snapshot.role.fenced:
            return
        yield (
            f"the cluster {config.cluster} cannot be asked how it is ({status.reason}), expected an admin that answers"
            " and has found the master: the promise neo-node of each node tells which of its processes do not run"
        )
        return
    yield from _state_problems(snapshot)
    if status.cluster_state in SERVING:
        yield from _parameter_problems(snapshot)
    yield from _node_problems(snapshot)
    for name, backup in snapshot.backups:
        yield from _backup_problems(snapshot, f"the backup {name}", backup)


def _state_problems(snapshot: Snapshot) -> Iterator[str]:
    status, upstream = snapshot.status, snapshot.upstream
    if status.cluster_state not in SERVING:
        yield (
            f"the cluster is {status.cluster_state} and serves nobody, expected it to have started: {_start(snapshot)}"
        )
    elif upstream and status.cluster_state == RUNNING and not is_taken_over(snapshot):
        yield (
            f"the cluster is RUNNING and empty, expected BACKINGUP, as it was created as a backup of"
            f" {upstream.cluster}: keep everybody from writing to it, and request another instance in its place"
        )
    elif upstream and status.cluster_state != RUNNING:
        yield from _backup_problems(snapshot, "the cluster", status)


def _start(snapshot: Snapshot) -> str:
    """What to do about a cluster that does not start. When a primary master dies NEO waits for all storages."""
    if not snapshot.config.autostart:
        return "start what is missing of it; a new cluster is started by bin/neoctl start"
    if snapshot.config.replicas:
        return "start what is missing of it; or, when other storages have all that it has, bin/neoctl start"
    return "start what is missing of it"


def _backup_problems(snapshot: Snapshot, name: str, status: Status) -> Iterator[str]:
    """Of this cluster as a backup, or of a backup of it."""
    ours = status is snapshot.status
    upstream = snapshot.upstream if ours else Upstream(snapshot.config.cluster, "")
    assert upstream
    behind, most = lag(status, snapshot.at), timedelta(seconds=snapshot.config.monitor.maxlag)
    if not status.cluster_state:
        yield f"{name} cannot be asked how it is ({status.reason}), expected BACKINGUP: see its own promises"
    elif status.cluster_state == STARTING_BACKUP:
        has, or_take_over = "has nothing of it yet", ""
        if status.backup_tid:
            has, or_take_over = f"has all up to {times.text(moment(status.backup_tid))}", ", or take over"
        at = f" at {upstream.masters}" if upstream.masters else ""
        yield (
            f"{name} is STARTING_BACKUP, as its upstream {upstream.cluster}{at} does not answer, and it {has}, expected"
            f" BACKINGUP: start the upstream, look at the network between them{or_take_over}"
        )
    elif status.cluster_state != BACKINGUP:
        yield f"{name} is {status.cluster_state}, expected BACKINGUP{'' if ours else ': see its own promises'}"
    elif behind is not None and behind > most and status.first_copy_goal is None:
        yield (
            f"{name} is {duration(behind)} behind {upstream.cluster}, expected {duration(most)} at most: see whether"
            " its storages run and their disks keep up; monitor.maxlag is the limit"
        )


def _parameter_problems(snapshot: Snapshot) -> Iterator[str]:
    """What the parameters say of an upstream now, and the database is not: they count when it is created alone."""
    if snapshot.role.upstream:  # it became a backup by an action: role_verdict.py
        return
    was, now, left = snapshot.config.upstream, snapshot.config.requested_upstream, _left(snapshot)
    if now and now.cluster == left:  # it was a backup of that one again since its creation, and took over
        return
    if now is None:
        if was and not is_taken_over(snapshot):
            yield (
                f"upstream-cluster is empty, but the database is a backup of {was.cluster} and stays one:"
                " give upstream-cluster and upstream-masters again, or take over"
            )
    elif was is None:
        never = "was not created as a backup"
        yield (
            f"upstream-cluster is {now.cluster}, but the database {_is_left(snapshot) or never}, and no parameter makes"
            " it one: leave upstream-cluster and upstream-masters out, or run bin/neo-rejoin, which does"
        )
    elif was.cluster != now.cluster:
        is_now = f"was taken over from {was.cluster}" if is_taken_over(snapshot) else f"is a backup of {was.cluster}"
        is_now = _is_left(snapshot) or is_now
        yield (
            f"upstream-cluster is {now.cluster}, but the database {is_now}, and no parameter changes that:"
            f" {_again(snapshot, was)}, or run bin/neo-rejoin, which makes it a backup of {now.cluster}"
        )
    elif set(was.masters.split()) != set(now.masters.split()) and not is_taken_over(snapshot):
        yield (
            f"upstream-masters is {now.masters}, but the masters look for {was.cluster} at {was.masters}, which no"
            f" parameter changes: {_again(snapshot, was)}, or run bin/neo-rejoin, which has them look there"
        )


def _left(snapshot: Snapshot) -> str:
    """The cluster whose backup it was last, when an action has made a primary of it since; else empty."""
    last, is_primary = snapshot.role.last, snapshot.status.cluster_state == RUNNING
    return last.from_cluster if last and is_primary and not last.primary_now else ""


def _is_left(snapshot: Snapshot) -> str:
    """What an action has done to it, as the end of "the database ..."; empty for nothing."""
    last, left = snapshot.role.last, _left(snapshot)
    did = "was detached" if last and last.action == "detach" else "was taken over"
    return f"{did} from {left}" if left else ""


def _again(snapshot: Snapshot, was: Upstream) -> str:
    if is_taken_over(snapshot):
        return "leave upstream-cluster and upstream-masters out"
    return f"give {was.cluster} and {was.masters} again"


def _node_problems(snapshot: Snapshot) -> Iterator[str]:
    config, status = snapshot.config, snapshot.status
    states = {(node.type, node.address): node for node in status.nodes}
    expected = [("MASTER", address) for address in config.masters]
    expected += [("ADMIN", address) for address in config.admins]
    expected += [("STORAGE", address) for node in config.nodes for address in node.storages]
    down = [one for one in expected if one not in states or states[one].state not in (RUNNING, PENDING)]
    if down:
        listed = listing([f"the {kind.lower()} at {address}" for kind, address in down])
        yield (
            f"{listed} {'does' if len(down) == 1 else 'do'} not run, expected all nodes of the cluster to:"
            " the promises neo-node tell why"
        )
    pending = [node.uuid for node in status.nodes if node.type == "STORAGE" and node.state == PENDING]
    if pending and status.cluster_state in SERVING:
        yield (
            f"{'the storage' if len(pending) == 1 else 'the storages'} {listing(pending)} {_have(pending)} no part of"
            " the"
            f" database yet, expected all storages to: bin/neoctl add {' '.join(pending)}, and then bin/neoctl tweak"
        )
    if status.cells_out_of_date:
        yield (
            f"{status.cells_out_of_date} {'cell is' if status.cells_out_of_date == 1 else 'cells are'} out of date,"
            " expected none: wait until the storages have copied them from others, which they do while all run"
        )


def _cluster_summary(snapshot: Snapshot) -> str:
    config, status, upstream = snapshot.config, snapshot.status, snapshot.upstream
    if not status.cluster_state:
        return status.reason
    storages = sum(node.type == "STORAGE" for node in status.nodes)
    text = f"the cluster {config.cluster} is {status.cluster_state}, with {storages} storage{'s' * (storages != 1)}"
    if status.last_tid:
        text += f", its last transaction at {times.text(moment(status.last_tid))}"
    if left := _left(snapshot):
        text += f"; it was a backup of {left}, and {_last_change(snapshot)}"
    elif upstream and is_taken_over(snapshot):
        text += f"; it was a backup of {upstream.cluster}, and was taken over"
    elif upstream:
        text += f"; it is a backup of {upstream.cluster}, {_progress(status, snapshot.at)}"
    for name, backup in snapshot.backups:
        text += f"; its backup {name} is {backup.cluster_state}, {_progress(backup, snapshot.at)}"
    return text


def _last_change(snapshot: Snapshot) -> str:
    """What it did then, when, and where it was cut, by what the action noted."""
    last = snapshot.role.last
    assert last
    did = "follows it no longer" if last.action == "detach" else "was taken over"
    since = "since" if last.action == "detach" else "at"
    unfenced = f"; nobody has fenced {last.from_cluster}: see that it does not come back" if last.unfenced else ""
    return f"{did} {since} {last.at} by {last.action}, cut at {last.tid}{unfenced}"


def _progress(status: Status, now: datetime) -> str:
    if status.first_copy_goal is not None:
        return "whose first copy is being made: it cannot be taken over before that is complete"
    behind = lag(status, now)
    return "which is empty" if behind is None else f"{duration(behind)} behind"


def _have(words: list[str]) -> str:
    return "has" if len(words) == 1 else "have"


# ---- a node


def node(snapshot: NodeSnapshot) -> Verdict:
    """Whether all of a node's processes run, and have not died lately."""
    names = listing([one.service.name for one in snapshot.services])
    notes = "".join(
        note.replace("; it ", f"; {one.service.name} ", 1)
        for one in snapshot.services
        if (note := supervisor_verdict.note(one.supervised))
    )
    return judge(_node_problems_of(snapshot), f"{names} run{notes}")


def _node_problems_of(snapshot: NodeSnapshot) -> Iterator[str]:
    if not snapshot.config.masters:
        yield (
            "the masters of the cluster are not known yet, expected their addresses from the instance of the cluster,"
            " before which nothing is started here: process the instances (slapos node instance)"
        )
        return
    yield from role_verdict.node(snapshot.fenced)
    if snapshot.upstream_partitions is not None:
        yield (
            f"partitions is {snapshot.config.partitions}, but the upstream has {snapshot.upstream_partitions}, expected"
            " the same, without which the master ends at each start, and which no parameter changes: request another"
            " instance"
        )
    if snapshot.silent:
        yield (
            f"{snapshot.silent}, expected a server in which this node's storages have their data: see the log of"
            " neo-mariadb, which also tells that it is being made or recovers"
        )
    for one in snapshot.services:
        yield from _service_problems(one, snapshot.at)


def _service_problems(one: ServiceStatus, at: datetime) -> Iterator[str]:
    if one.lost:
        yield (
            f"{one.lost} is not there, expected the database that was made once: bring it back; or, to have an empty"
            " one in its place, read what the log of this service says"
        )
    if one.supervised is None:
        yield f"no supervisor of the service {one.service.name} runs, expected it to run: {one.service.remedy}"
    elif problem := supervisor_verdict.problem(one.service, one.supervised, at):
        yield problem
