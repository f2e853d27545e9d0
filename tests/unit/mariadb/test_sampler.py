# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a look at replication, and that a primary's last position outlives it."""

import dataclasses

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import replication_status, sampler, sql_replication
from slapos.recipe.erp5.mariadb.replication_status import Own, Upstream
from slapos.recipe.erp5.mariadb.sampler import Latest, Sample
from slapos.recipe.erp5.mariadb.service import SERVICE
from tests.unit.mariadb import partition
from tests.unit.mariadb.test_verdict_replication import OURS as FACTS
from tests.unit.mariadb.test_verdict_replication import SOURCE
from tests.unit.mariadb.test_verdict_replication import status as whole_status

NOW = times.parse("2026-11-25T03:00:00Z")
AT = times.text(NOW)
STATUS = whole_status()


def status(upstream: Upstream | None = None, own: Own | None = STATUS.own):
    return dataclasses.replace(STATUS, own=own, upstream=upstream)


def answered(position: str) -> Upstream:
    return Upstream(facts=dataclasses.replace(FACTS, binlog_pos=position, slave_pos=""))


def test_a_look_at_a_replica():
    found = sampler.sample(status(answered("0-1-40")), NOW)
    assert found == Sample(AT, SOURCE.lag, SOURCE.gtid_io_pos, FACTS.slave_pos, "0-1-40")


def test_a_look_without_the_primary_or_without_a_server():
    assert sampler.sample(status(Upstream(error="no")), NOW).primary_pos is None
    assert sampler.sample(status(own=None), NOW) == Sample(AT)


def test_the_last_position_of_a_primary_stays_known():
    first = status(answered("0-1-40"))
    known = sampler.following(Latest(), sampler.sample(first, NOW), first)
    assert known.known and known.known.primary_pos == "0-1-40" and known.address == SOURCE.address
    dead = status(Upstream(error="no"))
    later = sampler.following(known, sampler.sample(dead, NOW), dead)
    assert later.known == known.known and later.sample and later.sample.primary_pos is None
    silent = status(own=None)
    assert sampler.following(later, sampler.sample(silent, NOW), silent).known == known.known


def test_another_primary_s_position_is_another_one():
    first = status(answered("0-1-40"))
    known = sampler.following(Latest(), sampler.sample(first, NOW), first)
    own = dataclasses.replace(STATUS.own, sources=(dataclasses.replace(SOURCE, port=1),))
    other = status(Upstream(error="no"), own)
    assert sampler.following(known, sampler.sample(other, NOW), other).known is None


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The configuration of a partition whose database looks as `status` has it."""
    config = partition.config(tmp_path)
    shapes.save(config.path("etc", "mariadb.json"), config)
    monkeypatch.setattr(replication_status, "gather", lambda *_: status(answered("0-1-40")))
    return config.path("etc", "mariadb.json")


def test_what_it_saw_can_be_read_by_others(path):
    one = Sampler(SERVICE, path, clock=lambda: NOW)
    assert sampler.latest(configuration.load(path)) == Latest()
    one.once()
    assert sampler.latest(configuration.load(path)).known == one.hour()[-1]
    assert one.look and one.look.at == NOW


def test_a_primary_s_last_position_and_the_hour_outlive_the_process(path, monkeypatch):
    one = Sampler(SERVICE, path, clock=lambda: NOW)
    one.once()
    one._write(configuration.load(path))
    monkeypatch.setattr(replication_status, "gather", lambda *_: status(Upstream(error="no")))
    two = Sampler(SERVICE, path, clock=lambda: NOW)
    two._resume()
    assert two.hour() == one.hour()
    two.once()
    assert sampler.latest(configuration.load(path)).known == one.hour()[-1]


class Primary:
    """Stands for connections to a primary, of which the first ones break."""

    def __init__(self, monkeypatch, *ends: Error | None) -> None:
        self.made, self.closed, self.ends = 0, 0, list(ends)
        monkeypatch.setattr(replication_status, "connect_primary", self.connect)
        monkeypatch.setattr(sql_replication, "server_facts", self.facts)

    def connect(self, *_):
        self.made += 1
        return self

    def facts(self, _):
        end = self.ends.pop(0) if self.ends else None
        if end:
            raise end
        return FACTS

    def _force_close(self):
        self.closed += 1


def test_the_connection_to_the_primary_is_kept_for_a_minute(monkeypatch):
    primary, ask = Primary(monkeypatch), sampler._Primary().ask
    for _ in range(sampler.RECONNECT + 1):
        assert ask(None, SOURCE).facts == FACTS
    assert (primary.made, primary.closed) == (2, 1)
    ask(None, dataclasses.replace(SOURCE, port=1))
    assert primary.made == 3


def test_a_kept_connection_that_broke_says_nothing_of_the_primary(monkeypatch):
    primary, ask = Primary(monkeypatch, None, ServerError("gone")), sampler._Primary().ask
    assert [ask(None, SOURCE).facts for _ in range(2)] == [FACTS, FACTS]
    assert primary.made == 2


def test_a_primary_that_is_gone(monkeypatch):
    ask = sampler._Primary().ask
    Primary(monkeypatch, None, ServerError("gone"), ServerError("really"))
    assert ask(None, SOURCE).facts == FACTS
    assert ask(None, SOURCE) == Upstream(error="really")
