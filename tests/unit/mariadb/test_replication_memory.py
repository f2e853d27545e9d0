# SPDX-License-Identifier: GPL-2.0-or-later
"""What stays known when the other side is gone."""

from datetime import UTC, datetime, timedelta

from slapos.recipe.erp5.mariadb import replication_memory
from slapos.recipe.erp5.mariadb.replication_memory import Lag, Replicas, Seen

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=2)
WEEK = timedelta(days=7)


def test_the_last_lag_stays_known_and_since_when_it_is_unknown():
    first = replication_memory.with_lag(Lag(), 3, NOW)
    assert first == Lag(3, "2026-11-22T12:00:00Z")
    second = replication_memory.with_lag(first, None, LATER)
    assert second == Lag(3, "2026-11-22T12:00:00Z", "2026-11-22T12:02:00Z")
    assert replication_memory.with_lag(second, None, LATER + WEEK) == second
    assert replication_memory.with_lag(second, 0, LATER) == Lag(0, "2026-11-22T12:02:00Z")


def test_replicas_are_remembered_and_forgotten():
    first = replication_memory.with_connected(Replicas(), (9, 8), NOW, WEEK)
    assert first == Replicas((Seen(8, "2026-11-22T12:00:00Z"), Seen(9, "2026-11-22T12:00:00Z")))
    second = replication_memory.with_connected(first, (9,), LATER, WEEK)
    assert second == Replicas((Seen(8, "2026-11-22T12:00:00Z"), Seen(9, "2026-11-22T12:02:00Z")))
    assert replication_memory.with_connected(second, (), NOW + WEEK + timedelta(seconds=1), WEEK).replicas == (
        Seen(9, "2026-11-22T12:02:00Z"),
    )


def test_it_is_kept_in_a_file_that_may_be_lost(tmp_path):
    for path, memory in ((tmp_path / "lag", Lag(3, "a", "b")), (tmp_path / "seen", Replicas((Seen(8, "a"),)))):
        assert replication_memory.load(path, type(memory)) == type(memory)()
        replication_memory.save(path, memory)
        assert replication_memory.load(path, type(memory)) == memory
        path.write_text("cut")
        assert replication_memory.load(path, type(memory)) == type(memory)()
    replication_memory.save(tmp_path / "no" / "folder", Lag())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lag", "seen"]
