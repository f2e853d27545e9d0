# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page, status.json and the metrics tell of a NEO cluster, from what was seen of it."""

import dataclasses

import pytest

from slapos.recipe.erp5.control import metrics as prometheus
from slapos.recipe.erp5.control.sampler import Look
from slapos.recipe.erp5.neo import face, facts, metrics, role_state, sampler
from slapos.recipe.erp5.neo.actions import ACTIONS
from slapos.recipe.erp5.neo.ask import Status
from slapos.recipe.erp5.neo.config import Upstream
from slapos.recipe.erp5.neo.role_state import Change, Fence, PendingFence, Promotion, Rejoin, RoleState
from tests.unit.neo import partition
from tests.unit.neo.snapshots import AT, LAST, LAST_TEXT, NOW, UPSTREAM, URL, later, status

RUNNING = status(cluster_state="RUNNING", backup_tid=None, nodes=status().nodes)
FENCE = Fence("its backup new", "takeover of new", AT, Upstream("new", "a:1"), undone=("neo-node-1",))


class Seen:
    """A sampler that has looked once."""

    def __init__(self, found: Status | None) -> None:
        self.look = Look(NOW, sampler.sample(found, NOW), found) if found else None

    def hour(self):
        return (self.look.sample,) if self.look else ()


def gathered(tmp_path, found, role=None, **config):
    for name in ("srv", "var/run"):
        (tmp_path / name).mkdir(parents=True)
    config = partition.cluster(partition=str(tmp_path), **config)
    role_state.of(config).change(**(vars(role) if role else {}))
    return facts.gather(config, Seen(found), NOW)


BACKUP = {"upstream": UPSTREAM, "requested_upstream": UPSTREAM}


@pytest.mark.parametrize(
    ("found", "role", "config", "said", "aside", "usual"),
    [
        (status(), None, BACKUP, "Backup of old", "follows", ("takeover", "detach")),
        (status(cluster_state="STARTING_BACKUP"), None, BACKUP, "Backup of old", "its upstream does not answer", None),
        (RUNNING, None, {}, "Primary", "takes writes", ("fence", "rejoin")),
        (Status(), RoleState(fenced=FENCE), {}, "Fenced primary", "its masters are stopped", ("resume", "rejoin")),
        (RUNNING, RoleState(fenced=FENCE), {}, "Fenced primary", "and yet RUNNING", None),
        (Status(reason="no admin"), None, {}, "No answer from the cluster", "", ()),
        (
            status(cluster_state="RECOVERING", backup_tid=None),
            None,
            {},
            "No answer from the cluster",
            "serves nobody",
            (),
        ),
    ],
)
def test_the_role(tmp_path, found, role, config, said, aside, usual):
    shown = face.of(gathered(tmp_path, found, role, **config))
    assert (shown.role, shown.aside) == (said, aside)
    assert usual is None or shown.usual == usual
    assert set(shown.usual) <= set(ACTIONS)


def test_all_of_a_backup(tmp_path):
    shown = face.of(gathered(tmp_path, status(backup_tid=later(-90), cells_out_of_date=2), **BACKUP))
    assert shown.figures
    assert [(row.name, row.text) for row in shown.figures.rows] == [("Lag", "90 s"), ("First copy", "complete")]
    assert {row.name: row.text for row in shown.details} == {
        "Role asked for": "backup of old",
        "State": "BACKINGUP",
        "Cluster": "copy",
        "Follows": "old at 127.0.0.1:30000 127.0.0.2:30000",
        "Has all up to": LAST_TEXT.replace("01:00:00.000", "00:58:30.000").replace(
            LAST_TEXT.split()[0], f"0x{later(-90):016x}"
        ),
        "Last transaction of the upstream": LAST_TEXT,
        "Partitions": "12, with 0 replicas",
        "Cells out of date": "2",
    }
    assert [(row.name, row.text) for row in shown.care] == [
        ("Master M1", "RUNNING at 127.0.0.1:30001"),
        ("Storage S1", "RUNNING at 127.0.0.1:31001"),
        ("Storage S2", "RUNNING at 127.0.0.1:31002"),
    ]


def test_before_anybody_has_looked(tmp_path):
    found = gathered(tmp_path, None)
    assert (found.at, found.state, found.reason) == ("", "", "nobody has looked yet: wait a moment")
    assert face.of(found).details[1].text == "not known: nobody has looked yet: wait a moment"


@pytest.mark.parametrize(
    ("role", "note"),
    [
        (
            RoleState(fenced=FENCE),
            "It was stopped for new to be the primary in its place",
        ),
        (
            RoleState(fenced=dataclasses.replace(FENCE, tid="0x04")),
            "It was stopped for new to be the primary in its place; both have the same up to 0x04",
        ),
        (
            RoleState(promotion=Promotion("takeover", "old", "0x04", AT)),
            f"A takeover was begun at {AT} and has not ended: run it again",
        ),
        (
            RoleState(rejoin=Rejoin("1", UPSTREAM, True, "", AT)),
            f"A rejoin of old was begun at {AT} and has not ended: it goes on by itself",
        ),
        (
            RoleState(fence_pending=PendingFence("old", URL, AT)),
            f"The old primary old is stopped, and was not told yet what the takeover kept, since {AT}; this is tried"
            " again every few seconds",
        ),
        (
            RoleState(fence_pending=PendingFence("old", URL, AT, undone=("neo-node-1",))),
            f"The old primary old is stopped, but for what may run on its neo-node-1, since {AT}; this is tried again"
            " every few seconds",
        ),
        (
            RoleState(last=Change("takeover", AT, "old", "", "0x04")),
            f"The last change of role was the takeover of {AT}, cut at 0x04",
        ),
    ],
)
def test_what_role_changes_have_left(role, note):
    assert list(facts.notes(role)) == [note]


def test_an_old_primary_that_could_not_be_fenced():
    last = Change("takeover", AT, "old", "", "0x04", unfenced=True)
    first, _ = facts.notes(RoleState(fence_pending=PendingFence("old", URL, AT), last=last))
    assert first.startswith(f"The old primary old could not be stopped since {AT}; this is tried again")


def test_no_token_is_told_to_anybody(tmp_path):
    role = RoleState(fence_pending=PendingFence("old", URL, AT), upstream_control_url=URL)
    found = gathered(tmp_path, status(), role, upstream_control_url=URL, **BACKUP)
    assert "0" * 32 not in repr(dataclasses.asdict(found)) + repr(role) + repr(found)


def test_metrics_of_a_backup(tmp_path):
    found = gathered(tmp_path, status(backup_tid=later(-90)), **BACKUP)
    lines = prometheus.text(metrics.of(found)).decode().splitlines()
    samples = {line.split(" ")[0]: line.split(" ")[1] for line in lines if not line.startswith("#")}
    assert samples["neo_up"] == samples["neo_is_backup"] == samples["neo_requested_backup"] == "1.0"
    assert samples["neo_fenced"] == samples["neo_first_copy"] == samples["neo_cells_out_of_date"] == "0.0"
    assert (samples['neo_state{state="BACKINGUP"}'], samples['neo_state{state="RUNNING"}']) == ("1.0", "0.0")
    assert samples["neo_replication_lag_seconds"] == "90.0"
    assert samples['neo_nodes{state="RUNNING",type="storage"}'] == "2.0"
    assert float(samples['neo_transaction_timestamp_seconds{tid="last"}']) == pytest.approx(NOW.timestamp())
    assert float(samples['neo_transaction_timestamp_seconds{tid="backup"}']) == pytest.approx(NOW.timestamp() - 90)


def test_metrics_of_what_nobody_has_seen(tmp_path):
    lines = prometheus.text(metrics.of(gathered(tmp_path, None))).decode().splitlines()
    names = {line.split(" ")[0] for line in lines if not line.startswith("#")}
    assert names == {"neo_up", "neo_fenced", "neo_requested_backup", "neo_action_running"}


def test_what_is_kept_of_a_look():
    kept = sampler.sample(status(backup_tid=later(-90)), NOW)
    assert (kept.at, kept.lag, kept.state) == (AT, 90, "BACKINGUP")
    assert (kept.backup_tid, kept.last_tid) == (f"0x{later(-90):016x}", f"0x{LAST:016x}")
    assert sampler.sample(Status(), NOW) == sampler.Sample(AT)
