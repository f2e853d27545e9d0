# SPDX-License-Identifier: GPL-2.0-or-later
"""What is decided about semi-synchronous replication: each role, and what the other server does."""

import dataclasses

import pytest

from slapos.recipe.erp5.mariadb import semi_sync
from slapos.recipe.erp5.mariadb.config import SemiSync
from slapos.recipe.erp5.mariadb.semi_sync import PRIMARY, REPLICA, Plan, Seen
from slapos.recipe.erp5.mariadb.sql_semi_sync import State

ON, OFF = SemiSync(True, 10), SemiSync(False, 10)
IDLE = State(False, False, 0, 10000, "AFTER_SYNC", False, False)
WAITS = dataclasses.replace(IDLE, awaits=True, active=True)
ANSWERS = dataclasses.replace(IDLE, acknowledges=True, acknowledging=True)


@pytest.mark.parametrize(
    ("wanted", "replica", "options"),
    [
        (OFF, False, ()),
        (OFF, True, ()),
        (
            ON,
            False,
            (
                "--rpl-semi-sync-master-enabled=ON",
                "--rpl-semi-sync-master-timeout=10000",
                "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            ),
        ),
        (ON, True, ("--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-slave-kill-conn-timeout=1")),
    ],
)
def test_options_follow_the_role(wanted, replica, options):
    assert semi_sync.options(wanted, replica) == options


def test_a_server_that_starts_in_its_promotion_waits_for_nobody():
    assert semi_sync.options(ON, replica=False, promoted=True) == ()
    assert semi_sync.options(ON, replica=True, promoted=True) == semi_sync.options(ON, replica=True)


@pytest.mark.parametrize(
    ("wanted", "role", "receives", "state", "keep", "plan"),
    [
        (OFF, PRIMARY, False, IDLE, True, Plan()),
        (OFF, PRIMARY, False, dataclasses.replace(IDLE, timeout=1), True, Plan()),
        (OFF, PRIMARY, False, WAITS, True, Plan(awaits=False)),
        (OFF, REPLICA, True, ANSWERS, True, Plan(acknowledges=False, restart=True)),
        # A new primary, without a replica and with one.
        (ON, PRIMARY, False, IDLE, False, Plan()),
        (ON, PRIMARY, False, dataclasses.replace(IDLE, clients=1), True, Plan(awaits=True)),
        (ON, PRIMARY, False, WAITS, False, Plan(awaits=False)),
        # One whose replica is away for a moment.
        (ON, PRIMARY, False, WAITS, True, Plan()),
        (ON, PRIMARY, False, dataclasses.replace(WAITS, timeout=1), True, Plan(limit=True)),
        (ON, PRIMARY, False, dataclasses.replace(WAITS, wait_point="AFTER_COMMIT"), True, Plan(limit=True)),
        # Promoted, demoted.
        (ON, PRIMARY, False, ANSWERS, False, Plan(acknowledges=False)),
        (ON, REPLICA, False, WAITS, False, Plan(awaits=False, acknowledges=True)),
        (ON, REPLICA, True, IDLE, True, Plan(acknowledges=True, restart=True)),
        (ON, REPLICA, True, ANSWERS, True, Plan()),
        # The thread will be told when it starts.
        (ON, REPLICA, False, dataclasses.replace(ANSWERS, acknowledging=False), True, Plan()),
    ],
)
def test_what_is_to_change(wanted, role, receives, state, keep, plan):
    assert semi_sync.plan(wanted, Seen(role, True, receives, state), keep) == plan


def test_nothing_is_expected_of_a_primary_that_is_fenced():
    assert list(semi_sync.problems(ON, PRIMARY, False, IDLE)) == []
    assert len(list(semi_sync.problems(ON, PRIMARY, True, IDLE))) == 1
