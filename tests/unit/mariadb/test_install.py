# SPDX-License-Identifier: GPL-2.0-or-later
"""How mariadb-install goes on after a failure, without any server."""

import dataclasses
import json
import re

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.errors import ConfigurationError, ServerError, Unreachable
from slapos.recipe.erp5.mariadb import bootstrap, create, install, new_database, progress
from slapos.recipe.erp5.mariadb.config import Replication
from tests.unit.mariadb import partition

SENTENCE = "http://10.0.0.1:22000 does not answer (Connection refused): see whether it runs, and the network"


class World:
    """A partition's JSON file, and what is done because of it."""

    def __init__(self, folder, monkeypatch):
        self.config = partition.config(folder)
        self.path, self.directory = self.config.path("etc", "mariadb.json"), self.config.path("srv", "mariadb.new")
        self.made, self.pauses, self.after = [], [], []
        monkeypatch.setattr(bootstrap, "make", self.make)
        monkeypatch.setattr(create, "create", self.create)
        monkeypatch.setattr(new_database, "initialise", lambda config, folder: self.made.append("empty"))
        self.failures: list[Exception] = []
        self.later_failures: list[Exception] = []
        self.stages: list[str] = []

    def write(self, bootstrap_url=None):
        replication = None
        if bootstrap_url is not None:
            replication = Replication("mysql://u:p@10.0.0.1:20000", bootstrap_url, "", 0, True, False)
        config = dataclasses.replace(self.config, replication=replication)
        self.path.write_text(json.dumps(shapes.dashed(dataclasses.asdict(config))))

    def make(self, config, directory, report, outside):
        assert not directory.exists()
        directory.mkdir()
        if self.failures:
            raise self.failures.pop(0)
        self.made.append(config.replication.bootstrap_url)

    def create(self, config, directory):
        assert directory.exists()
        self.stages.append(progress.load(self.config.bootstrap_state).stage)
        if self.later_failures:
            raise self.later_failures.pop(0)

    def sleep(self, seconds):
        self.pauses.append(seconds)
        if self.after:
            self.after.pop(0)()

    def install(self):
        install.install(self.path, self.directory, lambda: None, self.sleep)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path / "p", monkeypatch)


def lines(capsys) -> list[str]:
    return [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def test_pauses_grow_and_end_with_the_first_success(world, capsys):
    world.write("http://10.0.0.1/x/")
    world.failures = [Unreachable(SENTENCE) for _ in range(8)]
    world.install()
    assert world.pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    assert world.made == ["http://10.0.0.1/x/"]
    assert lines(capsys)[:2] == [
        f"error: {SENTENCE}",
        f"the next attempt is in 5 s; what {world.path} says by then counts",
    ]
    state = progress.load(world.config.bootstrap_state)
    assert state is not None
    assert (state.stage, state.attempts, state.error) == ("complete", 9, "")


def test_the_state_says_why_it_waits(world):
    world.write("http://10.0.0.1/x/")
    world.failures = [OSError(28, "No space left on device", "/srv/x")]
    states = []
    world.after = [lambda: states.append(progress.load(world.config.bootstrap_state))]
    world.install()
    assert (states[0].stage, states[0].attempts) == ("wait for the next attempt", 1)
    assert states[0].error == "/srv/x: No space left on device: free disk space"


def test_what_a_killed_run_left_is_removed(world):
    world.write("http://10.0.0.1/x/")
    world.directory.mkdir()
    incremental = world.directory.with_name("mariadb.new.incremental")
    incremental.mkdir()
    (incremental / "ibdata1.delta").touch()
    world.install()
    assert not incremental.exists()


def test_each_attempt_reads_the_parameters_anew(world, capsys):
    world.write("http://10.0.0.1/wrong/")
    world.failures = [Unreachable(SENTENCE), Unreachable(SENTENCE)]
    world.after = [lambda: world.path.write_text("{"), lambda: world.write("http://10.0.0.1/right/")]
    world.install()
    assert world.made == ["http://10.0.0.1/right/"]
    said = lines(capsys)
    assert any(line.startswith(f"error: {world.path} cannot be read as JSON: ") for line in said)
    assert any(line.endswith("; what it said before counts") for line in said)


def test_without_replication_it_is_an_empty_database(world):
    world.write()
    world.install()
    assert (world.made, world.pauses) == (["empty"], [])


def test_when_replication_goes_away_it_is_an_empty_database(world):
    world.write("http://10.0.0.1/x/")
    world.failures = [Unreachable(SENTENCE)]
    world.after = [world.write]
    world.install()
    assert world.made == ["empty"]
    assert not world.config.bootstrap_state.exists()


def test_a_file_that_was_never_good_ends_it(world):
    world.path.write_text("{")
    with pytest.raises(ConfigurationError):
        world.install()


def test_a_failure_that_nobody_foresaw_is_one_like_others(world, capsys):
    world.write("http://10.0.0.1/x/")
    world.failures = [UnicodeError("secret")]
    world.install()
    assert world.pauses == [5]
    assert re.fullmatch(r"error: unexpected UnicodeError at install.py:\d+, expected none: report it", lines(capsys)[0])


def test_a_replica_that_cannot_be_completed_is_tried_again_after_a_pause(world, capsys):
    world.write("http://10.0.0.1/x/")
    world.later_failures = [ServerError("no server"), ServerError("no server")]
    there = []
    world.after = [lambda: there.append(world.directory.exists())] * 2
    world.install()
    assert (world.pauses, there) == ([5, 10], [False, False])
    assert world.stages == ["complete the replica"] * 3
    assert lines(capsys)[0] == "error: no server"
    state = progress.load(world.config.bootstrap_state)
    assert state is not None and (state.stage, state.attempts, state.error) == ("complete", 3, "")
