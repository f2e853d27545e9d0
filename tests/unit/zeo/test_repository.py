# SPDX-License-Identifier: GPL-2.0-or-later
"""Which chains there are, by repozo's records, which go, and what a moment is restored from."""

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.zeo import backup, repository
from slapos.recipe.erp5.zeo.repository import Chain, Piece

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def name(at: datetime, suffix: str) -> str:
    return f"{at:%Y-%m-%d-%H-%M-%S}{suffix}"


def make(folder: Path, *moments: datetime) -> Chain:
    """A chain with a file of ten bytes for each moment."""
    folder.mkdir(parents=True)
    lines = []
    for number, at in enumerate(moments):
        content = f"{number:010}".encode()
        path = folder / name(at, ".deltafsz" if number else ".fsz")
        path.write_bytes(gzip.compress(content))
        path.with_suffix(".index").touch()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        lines.append(f"/some/where else/{path.name} {10 * number} {10 * number + 10} {md5}\n")
    (folder / name(moments[0], ".dat")).write_text("".join(lines))
    return repository.chain(folder)


def test_a_record_wherever_its_files_were_when_it_was_written(tmp_path):
    chain = make(tmp_path / "0001", NOW, NOW + DAY)
    assert [(piece.path, piece.begin, piece.end) for piece in chain.pieces] == [
        (tmp_path / "0001/2026-11-22-12-00-00.fsz", 0, 10),
        (tmp_path / "0001/2026-11-23-12-00-00.deltafsz", 10, 20),
    ]
    assert (chain.end, chain.pieces[1].at) == (20, NOW + DAY)
    assert repository.damage(chain) == ""
    for piece in chain.pieces:
        repository.verify(piece)


MD5 = "0" * 32


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("x", "line 1 is none of repozo's"),
        (f"../x.fsz 0 10 {MD5}", "line 1 is none of repozo's"),
        (f"2026-11-22-12-00-00.fsz 0 10 {MD5}\n2026-11-22-12-00-0", "line 2 is none of repozo's"),
        (f"2026-11-22-12-00-00.fsz 1 10 {MD5}", "2026-11-22-12-00-00.fsz does not continue what is before it"),
        (f"2026-11-22-12-00-00.deltafsz 0 10 {MD5}", "2026-11-22-12-00-00.deltafsz is in the wrong place"),
        (
            f"2026-11-22-12-00-00.fsz 0 10 {MD5}\n2026-11-22-12-00-00.deltafsz 10 20 {MD5}",
            "2026-11-22-12-00-00.deltafsz is not later than what is before it",
        ),
    ],
)
def test_records_that_nothing_is_restored_from(tmp_path, text, reason):
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001/2026-11-22-12-00-00.dat").write_text(text)
    with pytest.raises(BackupError) as error:
        repository.chains(tmp_path)
    assert f"({reason}), expected one: move that folder away" in str(error.value)


def test_a_folder_without_a_record_is_never_removed(tmp_path):
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001/2026-11-22-12-00-00.fsz").touch()
    with pytest.raises(BackupError, match="has no record of repozo's"):
        repository.settle(tmp_path)
    assert (tmp_path / "0001/2026-11-22-12-00-00.fsz").exists()


def test_what_killed_runs_have_left_goes_and_what_people_put_there_stays(tmp_path):
    folder = tmp_path / "root"
    chain = make(folder / "0001", NOW, NOW + DAY)
    for left in ("2026-11-24-12-00-00.deltafsz", "2026-11-24-12-00-00.index", ".2026-11-22-12-00-00.dat.x", "note"):
        (chain.folder / left).touch()
    for beside in ("root.partial", "root.expired"):
        (tmp_path / beside / "0001").mkdir(parents=True)
    assert repository.settle(folder) == (chain,)
    assert sorted(path.name for path in chain.folder.iterdir()) == [
        "2026-11-22-12-00-00.dat",
        "2026-11-22-12-00-00.fsz",
        "2026-11-23-12-00-00.deltafsz",
        "2026-11-23-12-00-00.index",
        "note",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_damage(tmp_path):
    chain = make(tmp_path / "0001", NOW, NOW + DAY)
    path = chain.pieces[1].path
    path.write_bytes(path.read_bytes()[:-1])
    assert repository.damage(chain) == f"{path} is not as it was written"
    with pytest.raises(BackupError, match="cannot be read"):
        repository.verify(chain.pieces[1])
    path.write_bytes(gzip.compress(b"0" * 10))
    assert repository.damage(chain) == ""
    with pytest.raises(BackupError, match="does not hold what was written into it"):
        repository.verify(chain.pieces[1])
    path.unlink()
    assert repository.damage(chain) == f"{path} cannot be read (No such file or directory)"


def chain_of(*moments: datetime) -> Chain:
    pieces = (Piece(Path(name(at, ".fsz")), 0, 1, MD5) for at in moments)
    return Chain(Path(f"{moments[0]}"), tuple(pieces))


OLD, OLDER = chain_of(NOW - 5 * DAY, NOW - 2 * DAY), chain_of(NOW - 9 * DAY, NOW - 8 * DAY)


@pytest.mark.parametrize(
    ("found", "days", "gone"),
    [
        ((), 1, ()),
        ((OLDER,), 1, ()),
        ((OLDER, OLD), 7, (OLDER,)),
        ((OLDER, OLD), 8, ()),
        ((OLD, chain_of(NOW)), 3, ()),
        ((OLDER, OLD, chain_of(NOW)), 1, (OLDER, OLD)),
    ],
)
def test_a_chain_goes_when_all_of_it_is_old_and_the_newest_never(found, days, gone):
    assert repository.expired(found, NOW, days) == gone


@pytest.mark.parametrize(
    ("newest", "days", "due"),
    [
        (None, 7, True),
        (chain_of(NOW - 6 * DAY), 7, False),
        (chain_of(NOW - 7 * DAY, NOW), 7, True),
        (chain_of(NOW - DAY, NOW + DAY), 7, True),
        (chain_of(NOW - DAY, NOW + timedelta(seconds=1)), 7, False),
    ],
)
def test_when_a_full_backup_is_due(newest, days, due):
    assert repository.is_full_due(newest, NOW, days) == due


def test_what_a_moment_is_restored_from():
    found = (OLDER, OLD)
    assert repository.until(found, None) == OLD
    assert repository.until(found, NOW - 2 * DAY) == OLD
    assert repository.until(found, NOW - 3 * DAY).pieces == OLD.pieces[:1]
    assert repository.until(found, NOW - 6 * DAY) == OLDER
    with pytest.raises(BackupError) as error:
        repository.until(found, NOW - 10 * DAY)
    expected = (
        "there is no backup of 2026-11-12T12:00:00Z or before, expected one: the oldest is of 2026-11-13T12:00:00Z"
    )
    assert str(error.value) == expected
    with pytest.raises(BackupError, match="there is no backup"):
        repository.until((), None)


def test_the_room_that_a_backup_takes(tmp_path):
    chain = make(tmp_path / "0001", NOW)
    full = chain.pieces[0].path.stat().st_size
    assert backup.needed(110, (chain,), chain) == 100 + backup.LEAST
    assert backup.needed(5, (chain,), chain) == backup.LEAST
    assert backup.needed(110, (chain,), None) == round(full * backup.GROWTH) + backup.LEAST
    assert backup.needed(110, (), None) == 110 + backup.LEAST
