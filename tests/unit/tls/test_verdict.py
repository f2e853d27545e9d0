# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said about certificates: each state of them, and the whole line."""

import dataclasses
from datetime import timedelta

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.tls import JOB, verdict
from slapos.recipe.erp5.tls.status import Item, Shown, Status
from tests.unit.tls.made import NOW

URL = "http://[::1]:24000"
OLD = NOW - timedelta(days=2)
DONE = Job(JOB, outcome=state.DONE, last_success=times.text(NOW), since=times.text(OLD))
SERVER = Item("server.pem", URL, OLD, left=0.8, until=NOW + timedelta(days=74))
CLIENT = dataclasses.replace(SERVER, name="client.pem")
LIST = Item("crl.pem", URL, OLD, left=0.9, until=NOW + timedelta(days=27))
UPSTREAM = Item("upstream/client.pem", "", OLD, left=0.5, until=NOW + timedelta(days=46))
FAILED = Job(JOB, outcome=state.FAILED, message="the authority is dead", last_success=times.text(NOW))


def status(**changes):
    shown = (Shown("MariaDB", "F"), Shown("nginx at [::1]:22000", "F"))
    values = {
        "certificates": (SERVER, CLIENT),
        "lists": (LIST,),
        "shown": shown,
        "fingerprint": "F",
        "job": DONE,
        "requests": 0,
        "bad_requests": (),
        "external": "",
        "terms": TERMS,
    }
    return Status(**values | changes)


def problem(**changes):
    judged = verdict.certificates(status(**changes), NOW)
    assert not judged.good
    (sentence,) = judged.sentences
    return sentence


def summary(**changes):
    judged = verdict.certificates(status(**changes), NOW)
    assert judged.good, judged.sentences
    (sentence,) = judged.sentences
    return sentence


def server(**changes):
    return {"certificates": (dataclasses.replace(SERVER, **changes), CLIENT)}


def test_good():
    assert summary() == (
        "certificates and revocation lists are valid: server.pem until 2027-02-06T12:00:00Z, client.pem until "
        "2027-02-06T12:00:00Z, crl.pem until 2026-12-21T12:00:00Z; shown by MariaDB and nginx at [::1]:22000"
    )


def test_servers_that_are_down_are_for_other_promises():
    down = (Shown("MariaDB", error="refused", down=True),)
    assert summary(shown=down).endswith(", crl.pem until 2026-12-21T12:00:00Z")


def test_a_replicas():
    assert "upstream/client.pem until 2027-01-09T12:00:00Z" in summary(certificates=(SERVER, CLIENT, UPSTREAM))


@pytest.mark.parametrize("left", [0.34, 0.32, 0.25])
def test_renewal_may_take_its_time(left):
    assert summary(**server(left=left))


def test_renewal_is_late():
    assert problem(**server(left=0.249)) == (
        "server.pem expires at 2027-02-06T12:00:00Z (25% of its life is left), expected it to be renewed under 33%: "
        "read the log of the service mariadb-control"
    )
    assert problem(**server(left=0.2), job=FAILED) == (
        "server.pem expires at 2027-02-06T12:00:00Z (20% of its life is left), expected it to be renewed under 33% "
        "(the renewal says: the authority is dead): read the log of the service mariadb-control"
    )


def test_expired():
    assert problem(**server(left=-0.1, until=NOW)) == (
        "server.pem expired at 2026-11-24T12:00:00Z, expected it to be renewed under 33%: read the log of the service "
        "mariadb-control"
    )


def test_unusable():
    assert problem(**server(error="it is missing")) == (
        "server.pem cannot be used (it is missing), expected a key with its certificate, which the renewal puts there: "
        "read the log of the service mariadb-control"
    )


def test_a_placeholder_for_a_while():
    young = server(placeholder=True, written=NOW - timedelta(minutes=14), left=0.1)
    assert summary(**young) == (
        "the certificates are placeholders until the authority has answered, which takes some minutes at most"
    )
    assert problem(**server(placeholder=True, written=NOW - timedelta(minutes=20)), job=FAILED) == (
        f"server.pem is still a placeholder after 20 min, expected a certificate of {URL} (the renewal says: the "
        "authority is dead): read the logs of the services mariadb-caucased and mariadb-control"
    )


def test_waiting_for_somebody():
    assert problem(**server(placeholder=True, waiting=True), external=URL) == (
        f"the request for server.pem waits at {URL} for somebody's approval, expected a certificate: have it signed "
        "there (its number is in the log of the service mariadb-control); then it goes on by itself"
    )
    waiting = Item("upstream/client.pem", URL, waiting=True)
    assert problem(certificates=(SERVER, CLIENT, waiting)) == (
        f"the request for upstream/client.pem waits at {URL} for somebody's approval, expected a certificate: add our "
        "caucased-csr-to-sign to caucased.csr-to-sign of the primary, or have it signed there; then it goes on by "
        "itself"
    )


def test_a_list_that_is_not_renewed():
    assert problem(lists=(dataclasses.replace(LIST, left=0.2),)) == (
        "the revocation list crl.pem expires at 2026-12-21T12:00:00Z (20% of its life is left), expected a newer one "
        "of its authority, as nobody is let in by one that expired: see that the authority runs and can be reached, "
        "and read the log of the service mariadb-control"
    )
    assert problem(lists=(Item("crl.pem", URL, error="it is missing"),)) == (
        "crl.pem cannot be used (it is missing), expected a revocation list: read the log of the service "
        "mariadb-control"
    )


def test_renewal_fails():
    for minutes, good in ((59, True), (61, False)):
        job = dataclasses.replace(FAILED, last_success=times.text(NOW - timedelta(minutes=minutes)))
        assert verdict.certificates(status(job=job), NOW).good == good
    never = dataclasses.replace(FAILED, last_success="", since=times.text(NOW - timedelta(hours=3)))
    assert problem(job=never) == (
        "the renewal of certificates has not succeeded for 3 h, expected a success every few minutes: the authority is "
        "dead"
    )


def test_a_server_with_an_old_certificate():
    assert problem(shown=(Shown("MariaDB", "G"),)) == (
        "MariaDB shows another certificate than the one in server.pem, expected it to have read the new one: read the "
        "log of the service mariadb-control, and restart it"
    )
    assert summary(shown=(Shown("MariaDB", "G"),), **server(written=NOW - timedelta(minutes=1)))


def test_a_server_without_tls():
    assert problem(shown=(Shown("nginx at [::1]:22000", error="WRONG_VERSION_NUMBER"),)) == (
        "nginx at [::1]:22000 shows no certificate (WRONG_VERSION_NUMBER), expected the one in server.pem: restart it"
    )


def test_what_the_parameter_lists():
    assert problem(requests=2, bad_requests=(2,)) == (
        "caucased.csr-to-sign: entry 2 is no certificate request in PEM, expected what a replica publishes as "
        "caucased-csr-to-sign: correct it"
    )
    assert problem(requests=1, external=URL) == (
        f"caucased.csr-to-sign is given, and the authority {URL} is used, where we cannot sign, expected one of both: "
        "have the requests signed there"
    )


def test_another_authority_than_at_the_creation():
    assert problem(external_differs=True) == (
        "the certificate authority is our own, expected another one, as caucased.external-caucased-url says, which "
        "takes effect at the database's creation alone, or all replicas would be shut out: give none there"
    )
