# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of actions."""

import importlib

import pytest

from slapos.recipe.erp5.mariadb.actions import ACTIONS
from slapos.recipe.erp5.mariadb.service import SERVICE


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_each_action_can_be_run_and_checked(name):
    module = importlib.import_module(ACTIONS[name].module)
    assert callable(module.run)
    assert callable(module.check)


def test_the_page_has_them_and_preflight_means_a_takeover():
    assert list(SERVICE.actions) == ["takeover", "switchover", "rejoin", "detach", "follow", "fence", "resume"]
    assert set(SERVICE.actions) == set(ACTIONS)
