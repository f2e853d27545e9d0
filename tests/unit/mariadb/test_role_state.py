# SPDX-License-Identifier: GPL-2.0-or-later
"""What role changes leave on the disk."""

import stat

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import role_state
from slapos.recipe.erp5.mariadb.config import Config, Replication
from slapos.recipe.erp5.mariadb.role_state import Fence, PendingFence, Promotion, RoleState, Upstream
from tests.unit.mariadb.partition import config as make_config

FENCE = Fence("page", "why", "2026-11-22T12:00:00Z")
REPLICATION = Replication("mysql://u:p@127.0.0.1:1", "", "", 0, True, True, "https://[::1]:2/#parameter")


@pytest.fixture
def config(tmp_path) -> Config:
    return make_config(tmp_path)


def test_nothing_ever_changed(config):
    assert role_state.load(config) == RoleState()
    assert not config.path("srv", "role").exists()


def test_a_change_keeps_the_rest_and_is_nobody_elses(config):
    role_state.change(config, fenced=FENCE)
    promotion = Promotion("takeover", "a:1", "0-1-5", FENCE.at, pending=PendingFence("a:1", "https://x/#t", FENCE.at))
    role_state.change(config, promotion=promotion)
    assert role_state.load(config) == RoleState(fenced=FENCE, promotion=promotion)
    path = config.path("srv", "role", "state.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_cannot_be_read_is_not_taken_for_nothing(config):
    role_state.change(config, fenced=FENCE)
    config.path("srv", "role", "state.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"state\.json cannot be read as JSON"):
        role_state.load(config)


def test_secrets_are_not_in_what_is_printed():
    upstream = Upstream("mysql://u:secret@127.0.0.1:1", control_url="https://x/#secret")
    assert "secret" not in repr(upstream)


@pytest.mark.parametrize(
    ("state", "given", "expected"),
    [
        (RoleState(), "given", "given"),
        (RoleState(), "", "https://[::1]:2/#parameter"),
        (RoleState(upstream=Upstream("mysql://u:p@127.0.0.1:1", control_url="noted")), "", "noted"),
        (RoleState(upstream=Upstream("mysql://u:p@127.0.0.1:9")), "", ""),  # the parameter is about another primary
        (RoleState(upstream=Upstream(REPLICATION.primary_url)), "", "https://[::1]:2/#parameter"),
        (RoleState(authority_dropped=True), "", ""),
        (RoleState(authority_dropped=True), "given", "given"),
    ],
)
def test_whose_token_is_known(config, state, given, expected):
    import dataclasses

    config = dataclasses.replace(config, replication=REPLICATION)
    assert role_state.control_url(config, state, given) == expected


def test_a_primary_knows_no_token(config):
    assert role_state.control_url(config, RoleState()) == ""
