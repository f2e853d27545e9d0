# SPDX-License-Identifier: GPL-2.0-or-later
"""The recorded collations are those of the release's server, which takes each of them as its own."""

import json

from slapos.recipe.erp5.buildout.mariadb_collations import COLLATIONS
from tests.render.partition import SOFTWARE
from tests.service.servers import administrator, query

APPLICABLE = (
    "SELECT CHARACTER_SET_NAME, FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
)


def test_the_collations_are_the_servers(primary):
    known: dict[str, set[str]] = {}
    for character_set, collation in query(primary, APPLICABLE):
        known.setdefault(character_set, set()).add(collation)
    assert {name: known.get(name) for name in COLLATIONS} == COLLATIONS


def test_the_server_takes_each_as_its_own(primary):
    with administrator(primary) as connection, connection.cursor() as cursor:
        for name in sorted(set().union(*COLLATIONS.values())):
            cursor.execute("SET SESSION collation_server = %s", (name,))


def test_each_character_set_of_the_schema_has_collations():
    schema = json.loads((SOFTWARE / "instance-mariadb-input-schema.json").read_text())
    assert set(schema["properties"]["character-set-server"]["enum"]) == set(COLLATIONS)
