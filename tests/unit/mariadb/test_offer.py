# SPDX-License-Identifier: GPL-2.0-or-later
"""The offered folder: exactly what is listed, whatever was there before."""

import pytest

from slapos.recipe.erp5.errors import BackupError
from slapos.recipe.erp5.mariadb import manifest, offer
from tests.unit.mariadb import partition


@pytest.fixture
def config(tmp_path):
    config = partition.config(tmp_path)
    config.dumps.mkdir(parents=True)
    return config


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_yet_is_an_empty_list(config):
    assert offer.update(config) == ()
    assert names(config.offered) == ["manifest.json"]
    assert manifest.load(config.offered) == ()
    assert config.offered.stat().st_mode & 0o777 == 0o700


def test_listed_files_are_linked_and_others_are_not(config):
    one, two = partition.add_backups(config, 2)
    (config.dumps / "20200101T000000Z.sql.zst").write_bytes(b"somebody put it here")
    assert offer.update(config) == (one, two)
    assert names(config.offered) == [one.name, two.name, "manifest.json"]
    assert (config.offered / one.name).samefile(config.dumps / one.name)
    assert manifest.load(config.offered) == (one, two)


def marks(folder):
    """What changes when a file is written or linked anew, and not when it is read."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (one.st_ino, one.st_nlink, one.st_mtime_ns, one.st_ctime_ns) for name, one in found.items()}


def test_again_changes_nothing(config):
    partition.add_backups(config, 2)
    offer.update(config)
    before = marks(config.offered)
    offer.update(config)
    assert marks(config.offered) == before


def test_what_is_no_longer_listed_goes(config):
    one, two = partition.add_backups(config, 2)
    offer.update(config)
    manifest.save(config.dumps, [two])
    assert offer.update(config) == (two,)
    assert names(config.offered) == [two.name, "manifest.json"]
    assert (config.dumps / one.name).exists()


def test_whatever_else_lies_there_goes(config):
    (one,) = partition.add_backups(config, 1)
    config.offered.mkdir()
    (config.offered / "20200101T000000Z.sql.zst").write_bytes(b"old")
    (config.offered / ".manifest.json.x1").write_bytes(b"left over")
    (config.offered / "20200102T000000Z.sql.zst").symlink_to("/etc/passwd")
    (config.offered / one.name).write_bytes(b"another file of the same name")
    (config.offered / "manifest.json").write_bytes(b"\xff")
    offer.update(config)
    assert names(config.offered) == [one.name, "manifest.json"]
    assert (config.offered / one.name).samefile(config.dumps / one.name)
    assert manifest.load(config.offered) == (one,)


def test_a_listed_file_that_has_vanished_is_not_offered(config):
    one, two = partition.add_backups(config, 2)
    (config.dumps / one.name).unlink()
    assert offer.update(config) == (two,)
    assert manifest.load(config.offered) == (two,)


def test_all_kinds_are_offered_in_one_list(config):
    chain, dumps = partition.add_chain(config, 1, 2), partition.add_backups(config, 3)
    offered = offer.update(config)
    assert offered == manifest.load(config.offered)
    assert sorted(entry.name for entry in offered) == sorted(entry.name for entry in (*chain, *dumps))
    assert [entry.start for entry in offered] == sorted(entry.start for entry in offered)
    assert (config.offered / chain[0].name).samefile(config.physical_backups / chain[0].name)


def test_what_continues_a_backup_that_has_vanished_is_not_offered(config):
    full, one, two = partition.add_chain(config, 1, 2)
    offer.update(config)
    (config.physical_backups / one.name).unlink()
    assert offer.update(config) == (full,)
    assert names(config.offered) == [full.name, "manifest.json"]
    assert (config.physical_backups / two.name).exists()


def test_a_list_that_cannot_be_used_leaves_what_is_offered(config):
    (one,) = partition.add_backups(config, 1)
    offer.update(config)
    (config.dumps / "manifest.json").write_text("{")
    with pytest.raises(BackupError):
        offer.update(config)
    assert manifest.load(config.offered) == (one,)
    assert names(config.offered) == [one.name, "manifest.json"]
