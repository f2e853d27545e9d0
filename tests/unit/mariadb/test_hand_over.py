# SPDX-License-Identifier: GPL-2.0-or-later
"""How hand-overs ended, as the database itself says, and only once nobody is at work."""

import pytest

from slapos.recipe.erp5.control import action, peer_proof
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.mariadb import hand_over, role_state
from slapos.recipe.erp5.mariadb.role_state import Promotion
from tests.unit.mariadb import partition

ONE, OTHER = "1" * 32, "2" * 32


@pytest.fixture
def config(tmp_path):
    return partition.config(tmp_path / "p")


@pytest.fixture
def replica(config):
    path = config.data_directory / "master.info"
    path.touch()
    return path


def test_what_was_left_open_by_a_replica_is_cancelled_for_good(config, replica):
    hand_over.begin(config, ONE)
    role_state.change(config, promotion=Promotion("switchover", "a", "", "2026-11-25T00:00:00Z", ONE))
    hand_over.require_open(config, ONE)
    assert hand_over.state(config, ONE) == hand_over.CANCELLED
    assert role_state.load(config).promotion is None
    replica.unlink()  # whatever it becomes later
    assert hand_over.state(config, ONE) == hand_over.CANCELLED
    with pytest.raises(Refused, match="this hand-over was cancelled: begin the switchover again"):
        hand_over.require_open(config, ONE)


def test_what_was_left_open_by_a_primary_counts_for_good(config, replica):
    hand_over.begin(config, ONE)
    replica.unlink()
    assert hand_over.state(config, ONE) == hand_over.PROMOTED
    replica.touch()  # it follows somebody else later
    assert hand_over.state(config, ONE) == hand_over.PROMOTED


def test_nothing_is_decided_while_an_action_is_at_work(config, replica):
    hand_over.begin(config, ONE)
    with action.place(config, "switchover"):
        assert hand_over.state(config, ONE) == hand_over.RUNNING
    assert hand_over.outcome(config, ONE) == hand_over.OPEN


def test_nothing_is_decided_without_a_data_directory(config):
    hand_over.begin(config, ONE)
    config.data_directory.rmdir()
    assert hand_over.state(config, ONE) == hand_over.RUNNING
    assert hand_over.outcome(config, ONE) == hand_over.OPEN


def test_another_hand_overs_promotion_is_left_alone(config, replica):
    hand_over.begin(config, ONE)
    promotion = Promotion("takeover", "a", "", "2026-11-25T00:00:00Z", "")
    role_state.change(config, promotion=promotion)
    (decided,) = hand_over.settle(config)
    assert decided.outcome == hand_over.CANCELLED
    assert role_state.load(config).promotion == promotion
    assert hand_over.settle(config) == ()


def test_it_is_found_by_its_public_name_alone(config):
    hand_over.begin(config, ONE)
    hand_over.begin(config, OTHER)
    assert hand_over.secret_of(config, peer_proof.public_name(OTHER)) == OTHER
    assert hand_over.secret_of(config, OTHER) == hand_over.secret_of(config, "") == ""
    assert hand_over.outcome(config, "3" * 32) == hand_over.CANCELLED
    path = config.path("srv", "role", "hand-overs.json")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_last_ones_are_remembered(config):
    for number in range(hand_over.KEPT + 5):
        hand_over.begin(config, f"{number:032x}")
    found = hand_over.load(config)
    assert len(found) == hand_over.KEPT and found[-1].secret == f"{hand_over.KEPT + 4:032x}"
