# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restore does with folders, and what it says, without a server."""

import re
from pathlib import Path

import pytest

from slapos.recipe.erp5.errors import Busy, ConfigurationError
from slapos.recipe.erp5.mariadb import dump_load, restore, swap
from tests.unit.mariadb import partition


@pytest.fixture
def config(tmp_path):
    """A stopped partition with an old database."""
    config = partition.config(tmp_path / "p7")
    database(config.data_directory, "old")
    return config


def database(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / "ibdata1").write_text(name)


def name_of(folder):
    return (folder / "ibdata1").read_text()


def new(config):
    database(swap.begin(config), "new")


def set_aside(config):
    return [name_of(path) for path in config.path("srv").glob("mariadb.before-restore-*")]


# ---- folders


def test_the_new_database_takes_the_old_one_s_place_which_is_kept(config):
    new(config)
    aside = swap.take_over(config)
    assert aside is not None
    assert re.fullmatch(r"mariadb\.before-restore-\d{8}T\d{6}Z", aside.name)
    assert (name_of(config.data_directory), name_of(aside)) == ("new", "old")
    assert sorted(path.name for path in config.data_directory.iterdir()) == ["ibdata1"]
    assert sorted(path.name for path in config.path("srv").iterdir()) == ["mariadb", aside.name]


def test_without_an_old_database_nothing_is_put_aside(config):
    new(config)
    (config.data_directory / "ibdata1").unlink()
    config.data_directory.rmdir()
    assert swap.take_over(config) is None
    assert name_of(config.data_directory) == "new"
    assert [path.name for path in config.path("srv").iterdir()] == ["mariadb"]


def test_an_unfinished_database_is_removed_by_the_next_run(config):
    new(config)
    swap.settle(config)
    assert [path.name for path in config.path("srv").iterdir()] == ["mariadb"]
    assert name_of(config.data_directory) == "old"


@pytest.mark.parametrize("left", [[], [swap.MARK], ["aria_log_control"]])
def test_a_folder_that_is_no_database_is_removed_by_the_next_run(config, left):
    folder = swap.growing(config)
    folder.mkdir()
    for name in left:
        (folder / name).touch()
    swap.settle(config)
    assert not folder.exists()
    swap.begin(config)


def test_killed_after_the_exchange_the_next_run_keeps_the_old_database(config):
    new(config)
    swap.exchange(swap.growing(config), config.data_directory)
    swap.settle(config)
    assert (name_of(config.data_directory), set_aside(config)) == ("new", ["old"])
    assert not swap.growing(config).exists()
    # And so it is told from the next one, at whatever moment that is killed.
    assert not (config.data_directory / swap.MARK).exists()


def test_killed_after_the_old_database_was_put_aside_the_next_run_knows_the_new_one(config, monkeypatch):
    new(config)
    with monkeypatch.context() as patch:
        patch.setattr(swap.Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            swap.take_over(config)
    swap.settle(config)
    assert (name_of(config.data_directory), set_aside(config)) == ("new", ["old"])
    assert not (config.data_directory / swap.MARK).exists()


def killed(*_, **__):
    raise KeyboardInterrupt


def test_a_removal_that_is_killed_leaves_nothing_that_passes_for_the_old_database(config, monkeypatch):
    new(config)

    def without_the_mark(folder, **_):
        (folder / swap.MARK).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(swap.shutil, "rmtree", without_the_mark)
        swap.discard(config)
    swap.settle(config)
    assert set_aside(config) == []
    assert not swap.growing(config).exists()


def test_a_filesystem_without_exchange_is_refused_before_anything_is_loaded(config, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(swap, "exchange", refuse)
    with pytest.raises(ConfigurationError) as raised:
        swap.settle(config)
    assert str(raised.value) == (
        f"the filesystem of {config.path('srv')} cannot exchange two folders in one step (Invalid argument): move the"
        " partition to a local one, such as ext4 or xfs"
    )
    assert [path.name for path in config.path("srv").iterdir()] == ["mariadb"]


# ---- what is refused


def test_the_lock_of_the_service_is_respected(config):
    with swap.locked(config), pytest.raises(Busy) as raised, swap.locked(config):
        pass
    assert str(raised.value) == (
        f"{config.data_directory}.lock is held, so the service of test runs, or another restore: stop it with"
        " `slapos node stop 'p7:*'`, restore, and start it with `slapos node start 'p7:*'`"
    )
    with swap.locked(config):
        pass


def test_a_database_is_replaced_only_on_demand(config):
    with pytest.raises(ConfigurationError) as raised:
        restore.check_present(config, replace=False)
    assert str(raised.value) == (
        f"{config.data_directory} exists, and a restore replaces all of it: add --replace, which keeps it under another"
        " name"
    )
    restore.check_present(config, replace=True)


@pytest.mark.parametrize("replace", [False, True])
def test_a_link_is_not_replaced(config, tmp_path, replace):
    config.data_directory.rename(tmp_path / "disk")
    config.data_directory.symlink_to(tmp_path / "disk")
    with pytest.raises(ConfigurationError) as raised:
        restore.check_present(config, replace)
    assert str(raised.value) == (
        f"{config.data_directory} is a link to {tmp_path}/disk, and only a folder can be swapped with a new one: put"
        " the database itself there, or remove the link to restore beside what it points to"
    )


def test_no_database_and_no_link_need_no_replace(config):
    config.data_directory.rename(config.path("elsewhere"))
    restore.check_present(config, replace=False)


# ---- what is said


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"ERROR 1064 (42000) at line 7: syntax; near 'INSERT INTO t VALUES (1,'secret')' at line 1\n", "near"),
        (b'ERROR 1062 (23000) at line 7: Duplicate entry "secret" for key\n', "Duplicate entry"),
        (b"ERROR 1146 (42S02) at line 7: Table `secret` is not there\n", "Table"),
        (b"--------------\nINSERT 'secret'\n--------------\nERROR 1 at line 7: Unknown\nsecret\n", "Unknown"),
    ],
)
def test_an_error_is_shown_up_to_its_first_quote(output, shown):
    text = dump_load.excerpt(output)
    assert "secret" not in text
    assert text.startswith("ERROR ")
    assert " at line 7: " in text
    assert text.endswith(shown)


@pytest.mark.parametrize("number", ["1114", "1021"])
def test_a_full_disk_is_called_so(number):
    output = (
        f"--------------\nINSERT 'secret'\n--------------\n\nERROR {number} (HY000) at line 7: The table 't' is full\n"
    )
    assert dump_load.why(output.encode(), Path("/p/srv")) == (
        f"a table has become full (error {number}), as on a disk without room: free disk space in /p/srv"
    )
    assert dump_load.why(b"ERROR 1064 (42000) at line 7: You have an error", Path("/p/srv")) == (
        "ERROR 1064 (42000) at line 7: You have an error"
    )


def test_an_error_s_excerpt_is_short_and_never_empty():
    assert len(dump_load.excerpt(b"ERROR " + b"x" * 9999)) == dump_load.EXCERPT
    assert dump_load.excerpt(b"secret") == "it named no error"
