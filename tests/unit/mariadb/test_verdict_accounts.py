# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of replication accounts that ask for less, or more, than the parameters do."""

import dataclasses

import pytest

from slapos.recipe.erp5.mariadb.replication_status import Own
from slapos.recipe.erp5.mariadb.sql import Account
from tests.unit.mariadb.test_verdict_replication import CREATION, SOURCE, THEIRS, primary, status, summary, the_problem

IPV4, IPV6, OTHER = (Account("replication_user", host) for host in ("%.%.%.%", "%:%", "10.0.0.7"))
SUBJECT = "SUBJECT '/CN=slapos-replication-client'"


def own(*requirements, sources=()):
    return Own(THEIRS, sources, frozenset(), requirements)


@pytest.mark.parametrize("tls", [True, False])
def test_as_they_are_made(tls):
    made = own((IPV4, SUBJECT if tls else "NONE"), (IPV6, SUBJECT), (OTHER, "X509"))
    assert summary(primary(own=made, replicas_use_tls=tls)) == "Mariadb is a primary, at GTID 0-1-50"


@pytest.mark.parametrize(
    ("tls", "required", "expected", "other"),
    [
        (True, "NONE", SUBJECT, ", or give replicas-use-tls: false"),
        (True, "SSL", SUBJECT, ""),
        (False, SUBJECT, "NONE", ", or give replicas-use-tls: true"),
        (True, f"{SUBJECT} ISSUER '/CN=x'", SUBJECT, ""),
    ],
)
def test_on_ipv4_it_is_as_the_parameter_says(tls, required, expected, other):
    assert the_problem(primary(own=own((IPV4, required)), replicas_use_tls=tls)) == (
        f"the account {IPV4} has REQUIRE {required}, expected REQUIRE {expected}, as replicas-use-tls says, which "
        f"{CREATION}: ALTER USER 'replication_user'@'%.%.%.%' REQUIRE {expected} in bin/mariadb{other}"
    )


@pytest.mark.parametrize("tls", [True, False])
def test_on_ipv6_it_is_always_the_subject(tls):
    assert the_problem(primary(own=own((IPV6, "NONE")), replicas_use_tls=tls)) == (
        f"the account {IPV6} has REQUIRE NONE, expected REQUIRE {SUBJECT}, as there is no other way in over IPv6: "
        f"ALTER USER 'replication_user'@'%:%' REQUIRE {SUBJECT} in bin/mariadb"
    )


def test_on_a_replica_they_are_its_primary_s_concern():
    there = status()
    assert there.own
    here = dataclasses.replace(there.own, sources=(SOURCE,), requirements=((IPV4, "NONE"),))
    assert summary(dataclasses.replace(there, own=here)).startswith("Mariadb replicates from ")
