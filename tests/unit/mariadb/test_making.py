# SPDX-License-Identifier: GPL-2.0-or-later
"""What all backups have in common, without a server: what is said on the way, and room that is wanted first."""

from datetime import UTC, datetime

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import making, manifest, space, store
from tests.unit.mariadb import partition


def lines(capsys) -> list[str]:
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("kind", ["logical", "physical"])
def test_there_has_to_be_room(monkeypatch, capsys, tmp_path, kind):
    where = getattr(store, kind)(partition.config(tmp_path))
    monkeypatch.setattr(space, "free", lambda folder: 100 << 20)
    making.check_space(where, 100 << 20)
    assert lines(capsys) == ["the backup takes about 100.0 MiB, 100.0 MiB are free"]
    monkeypatch.setattr(space, "free", lambda folder: 99 << 20)
    with pytest.raises(BackupError) as caught:
        making.check_space(where, 100 << 20)
    assert str(caught.value) == (
        f"99.0 MiB are free in {where.folder}, the next backup takes about 100.0 MiB: "
        f"free disk space or lower backup.{kind}.retention-days"
    )


def test_expired_backups_make_room_for_the_next_one(tmp_path, monkeypatch):
    config = partition.config(tmp_path / "p")
    where = store.logical(config)
    names = [entry.name for entry in partition.add_backups(config, 3)]
    monkeypatch.setattr(times, "now", lambda: datetime(2100, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(space, "free", lambda folder: (10 - sum(1 for _ in where.folder.glob("*.zst"))) << 20)
    making.check_space(where, 9 << 20)
    # All but the newest are past retention.
    assert [entry.name for entry in manifest.load(where.folder)] == names[-1:]


def test_a_database_that_is_still_being_created_is_no_failure(tmp_path, capsys):
    config = partition.config(tmp_path / "p")
    config.data_directory.rmdir()
    assert making.one_at_a_time(config, lambda: pytest.fail("it has to wait")) == making.BUSY
    sentence = "busy: there is no database yet: its creation comes first, see the log of the service mariadb"
    assert lines(capsys) == [sentence]
