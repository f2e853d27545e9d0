# SPDX-License-Identifier: GPL-2.0-or-later
"""What a killed rebuild leaves, without a server: the old database is never taken for the unfinished one."""

import pytest

from slapos.recipe.erp5.control.action import Act
from slapos.recipe.erp5.mariadb import bootstrap, create, rebuild, replica, swap
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.role_state import Upstream
from tests.unit.mariadb import partition

URL = "mysql://user:word@192.0.2.1:20001"


@pytest.fixture
def config(tmp_path):
    """A partition with a database that has diverged."""
    config = partition.config(tmp_path / "p7")
    (config.data_directory / "ibdata1").write_text("old")
    return config


@pytest.fixture
def made(config, monkeypatch):
    """Let a rebuild run to `last`, one of make, create and exchange, with files that stand for databases."""

    def make(wanted, folder, progress, outside):
        folder.mkdir()
        (folder / "ibdata1").write_text("new")
        end("make")

    def end(place):
        if place == made.last:
            raise KeyboardInterrupt

    def made(last):
        made.last = last
        with monkeypatch.context() as patch:
            patch.setattr(replica, "effective", lambda config: config)
            patch.setattr(rebuild.os, "umask", lambda mask: None)
            patch.setattr(rebuild.process, "sync_filesystem", lambda folder: None)
            patch.setattr(bootstrap, "make", make)
            patch.setattr(create, "create", lambda config, folder: end("create"))
            patch.setattr(rebuild, "_exchange", exchange)
            patch.setattr(rebuild, "_discard", lambda config: None)  # as if killed
            with pytest.raises(KeyboardInterrupt):
                rebuild.rebuild(config, act(config), urls.parse(URL), Upstream(URL, False))

    def exchange(config, act, primary, upstream, folder):
        end("complete")
        swap.exchange(folder, config.data_directory)
        end("exchange")

    return made


def act(config):
    return Act(config, "rejoin", "a test", "2026-11-01T00:00:00Z")


def names(config):
    return sorted(path.name for path in config.path("srv").iterdir() if path.name != "role")


def kept(config):
    return [(path / "ibdata1").read_text() for path in config.path("srv").glob("mariadb.diverged-*")]


def present(config):
    return (config.data_directory / "ibdata1").read_text()


@pytest.mark.parametrize("last", ["make", "create", "complete"])
def test_killed_before_the_exchange_the_new_database_is_removed(config, made, last):
    made(last)
    assert (rebuild.growing(config) / "ibdata1").read_text() == "new"
    rebuild.settle(config, act(config))
    assert (names(config), present(config)) == (["mariadb"], "old")


@pytest.mark.parametrize("restored", [False, True])
def test_killed_after_the_exchange_the_old_database_is_kept(config, made, restored):
    made("exchange")
    if restored:  # a restore removes the mark of the present database
        swap.settle(config)
    rebuild.settle(config, act(config))
    assert (kept(config), present(config)) == (["old"], "new")
    assert len(names(config)) == 2
    assert not (config.data_directory / swap.MARK).exists()


def test_another_rebuild_keeps_what_a_killed_one_had_replaced(config, made):
    made("exchange")
    swap.settle(config)
    made("make")
    assert kept(config) == ["old"]


def test_killed_after_the_old_one_was_put_aside_the_next_unfinished_one_is_not_kept(config, made):
    made("exchange")
    rebuild.put_aside(config)
    made("make")
    rebuild.settle(config, act(config))
    assert (kept(config), present(config), len(names(config))) == (["old"], "new", 2)


def test_a_removal_that_is_killed_is_gone_on_with(config, made, monkeypatch):
    made("complete")

    def killed(folder):
        (folder / swap.MARK).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "discard", killed)
        with pytest.raises(KeyboardInterrupt):
            rebuild.settle(config, act(config))
    rebuild.settle(config, act(config))
    assert (names(config), present(config)) == (["mariadb"], "old")


@pytest.mark.parametrize("left", [[], ["aria_log_control"]])
def test_a_folder_that_is_no_database_is_removed(config, left):
    rebuild.growing(config).mkdir()
    for name in left:
        (rebuild.growing(config) / name).touch()
    rebuild.settle(config, act(config))
    assert (names(config), kept(config)) == (["mariadb"], [])
