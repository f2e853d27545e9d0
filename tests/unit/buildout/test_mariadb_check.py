# SPDX-License-Identifier: GPL-2.0-or-later
"""What the schema cannot say of a MariaDB instance's parameters, said in one sentence."""

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout.mariadb_check import Recipe


def parameters(periodicity="daily", character_set="utf8mb4", collation="utf8mb4_general_ci", physical="daily"):
    return {
        "backup": {"logical": {"periodicity": periodicity}, "physical": {"periodicity": physical}},
        "character-set-server": character_set,
        "collation-server": collation,
    }


@pytest.mark.parametrize(
    "right", [parameters(), parameters("hourly"), parameters("30 2 * * 1-5"), parameters("daily", "binary", "binary")]
)
def test_right_parameters_are_accepted(right):
    Recipe({}, "parameters", {"configuration": right})


def test_a_collation_of_another_character_set_is_refused():
    with pytest.raises(UserError) as refused:
        Recipe({}, "parameters", {"configuration": parameters(collation="latin1_bin")})
    assert str(refused.value) == (
        "collation-server: latin1_bin does not belong to character-set-server, which is utf8mb4; "
        "give one that begins with utf8mb4_."
    )


def test_a_schedule_that_is_none_is_refused():
    with pytest.raises(UserError, match="^backup.logical.periodicity is 'sometimes', "):
        Recipe({}, "parameters", {"configuration": parameters("sometimes")})
    with pytest.raises(UserError, match="^backup.physical.periodicity is 'never', "):
        Recipe({}, "parameters", {"configuration": parameters(physical="never")})
