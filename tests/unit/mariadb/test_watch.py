# SPDX-License-Identifier: GPL-2.0-or-later
"""What is gone on with by itself: only what was left open, and each step has its turn."""

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.control.watcher import Watcher
from slapos.recipe.erp5.errors import Busy, ServerError
from slapos.recipe.erp5.mariadb import own_url, role_state
from slapos.recipe.erp5.mariadb import watch as real
from slapos.recipe.erp5.mariadb.role_state import Fence, HandOver, PendingFence, Promotion
from slapos.recipe.erp5.mariadb.service import SERVICE
from tests.unit.mariadb import partition

AT = "2026-11-25T00:00:00Z"


@pytest.fixture
def config(tmp_path):
    made = partition.config(tmp_path / "p")
    shapes.save(made.path("etc", "mariadb.json"), made)
    return made


@pytest.mark.parametrize(
    "left",
    [
        {"hand_over": HandOver("1" * 32, "https://192.0.2.1:26000", "mysql://192.0.2.1:20000", "", AT)},
        {"promotion": Promotion("takeover", "192.0.2.1:20000", "0-1-1", AT)},
        {"fence_pending": PendingFence("192.0.2.2:20000", "https://192.0.2.2:26000/#token", AT)},
        {"fenced": Fence("somebody", "it is to be so", AT)},
    ],
    ids=lambda left: next(iter(left)),
)
def test_only_what_was_left_open_is_gone_on_with(config, left):
    assert not SERVICE.is_open(config)
    role_state.change(config, **left)
    assert SERVICE.is_open(config)


# ---- the steps


class Primary:
    """Stands in for the old primary's Peer."""

    def __init__(self, monkeypatch) -> None:
        self.calls: list[tuple] = []
        monkeypatch.setattr(real, "Peer", lambda url: self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def call(self, *arguments):
        self.calls.append(arguments)


PENDING = PendingFence("192.0.2.2:20000", "https://192.0.2.2:26000/#token", AT)
FENCED = Fence("somebody", "it is to be so", AT)


@pytest.fixture
def primary(config, monkeypatch):
    role_state.change(config, fence_pending=PENDING)
    return Primary(monkeypatch)


def test_a_new_primary_fences_the_old_one_once(config, primary):
    for _ in range(2):
        real.fence_old_primary(config)
    reason = f"its replica {config.instance} took over at 2026-11-25T00:00:00Z"
    asked = {"address": "192.0.2.2:20000", "by": "its replica", "reason": reason}
    asked["new-primary"] = own_url.primary(config)
    assert primary.calls == [("fence", asked, real.TIMEOUT)]
    assert role_state.load(config).fence_pending is None


def test_who_is_fenced_itself_fences_nobody_until_it_is_resumed(config, primary):
    role_state.change(config, fenced=FENCED)
    real.fence_old_primary(config)
    assert (primary.calls, role_state.load(config).fence_pending) == ([], PENDING)
    role_state.change(config, fenced=None)
    real.fence_old_primary(config)
    assert len(primary.calls) == 1


def test_a_replica_has_nobody_to_fence(config, primary):
    (config.data_directory / "master.info").touch()
    with action.place(config, "rejoin"), pytest.raises(Busy):
        real.fence_old_primary(config)
    assert role_state.load(config).fence_pending == PENDING
    real.fence_old_primary(config)
    assert (primary.calls, role_state.load(config).fence_pending) == ([], None)


def test_each_step_has_its_turn_whatever_the_others_do(config, primary, monkeypatch):
    def fails(config):
        raise ServerError("no server")

    monkeypatch.setattr(real, "complete_promotion", fails)
    monkeypatch.setattr(real, "enforce_fence", fails)
    Watcher(SERVICE, config.path("etc", "mariadb.json")).look()
    assert len(primary.calls) == 1
    assert {real.FENCE_OLD_PRIMARY} == SERVICE.steady
