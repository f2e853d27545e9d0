# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promise of a balancer says of each situation, and when a configuration is loaded."""

import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.balancer import serve, status, verdict
from slapos.recipe.erp5.balancer.config import Config, Family
from slapos.recipe.erp5.balancer.status import Server, Snapshot
from slapos.recipe.erp5.supervisor import Supervised

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TWO = Family("default", 16000, ("127.0.0.1:2200", "127.0.0.1:2201"))
RUNS = Supervised(1, 2, "running", "2026-11-28T11:00:00Z", "", (), ())


def server(port: int, state: str) -> Server:
    return Server("default", f"127.0.0.1:{port}", state == "serves", state == "stands by", "Connection refused")


def said(*servers: Server, families=(TWO,), offered=None, **changes):
    values = {
        "config": Config("erp5-balancer", "/partition", "/haproxy", tuple(families)),
        "now": NOW,
        "supervised": RUNS,
        "silence": "",
        "refusal": "",
        "families": frozenset(family.name for family in families) if offered is None else offered,
        "servers": servers,
    }
    found = verdict.balancer(Snapshot(**values | changes))
    return found.good, "\n".join(found.sentences)


@pytest.mark.parametrize(
    "states, sentence",
    [
        (("serves", "serves"), "family default: 2 of 2 Zopes serve"),
        (("serves", "stands by"), "family default: 1 of 2 Zopes serve, 1 stands by"),
        (("stands by", "stands by"), "family default: 0 of 2 Zopes serve, 2 stand by"),
        (
            ("serves", "silent"),
            "family default: 1 of 2 Zopes serve, and of 127.0.0.1:2201 (Connection refused) there is no answer",
        ),
    ],
)
def test_one_zope_that_serves_or_stands_by_is_enough_for_a_family(states, sentence):
    assert said(*(server(2200 + number, state) for number, state in enumerate(states))) == (True, sentence)


def test_a_balancer_without_families_is_well():
    assert said(families=()) == (True, "there is no family yet")


def test_a_family_of_which_nobody_answers_is_named():
    assert said(server(2200, "silent"), server(2201, "silent")) == (
        False,
        "none of the Zopes of the family default answers: 127.0.0.1:2200 (Connection refused), 127.0.0.1:2201"
        " (Connection refused); expected one that serves or stands by: see the promises of their partitions",
    )


def test_a_family_without_zopes_is_named():
    assert said(families=(Family("empty", 16000, ()),)) == (
        False,
        "the family empty has no Zope, expected one at least: all that asks for it is answered 503; give its addresses,"
        " or leave the family out",
    )


def test_a_family_that_haproxy_could_not_offer_is_named():
    assert said(offered=frozenset()) == (
        False,
        "the family default is not offered, expected it at port 16000: see who else has the port, then write restart"
        " into /partition/var/run/balancer.supervise",
    )


def test_a_list_that_haproxy_has_not_taken_is_told():
    """Such as when the file was not written to its end, or the new processes could not listen."""
    given = Family("default", 16000, ("127.0.0.1:2200", "[::1]:2202"))
    assert said(server(2200, "serves"), server(2201, "serves"), families=(given,)) == (
        False,
        "haproxy does not have the Zopes of the family default that it was given (it differs by 127.0.0.1:2201,"
        " ::1:2202), expected it to take a new list within seconds: see the log of the service balancer, process the"
        " instance (slapos node instance) in case that was interrupted, or write restart into"
        " /partition/var/run/balancer.supervise",
    )
    six = Server("default", "::1:2202", True, False, "")
    assert said(server(2200, "serves"), six, families=(given,))[0]


def test_a_configuration_that_haproxy_did_not_take_is_told():
    assert said(server(2200, "serves"), refusal="cannot take over etc/haproxy.cfg: haproxy ended with status 1: x") == (
        False,
        "haproxy goes on with an earlier configuration, expected it to take the last one: cannot take over"
        " etc/haproxy.cfg: haproxy ended with status 1: x",
    )


def test_a_haproxy_that_does_not_answer_is_told():
    good, sentence = said(silence="Connection refused", supervised=None)
    assert (good, sentence) == (
        False,
        "haproxy does not answer on /partition/var/run/haproxy.sock (Connection refused), expected it to run: read the"
        " log of the service balancer, and process the instance (slapos node instance --all) when that does not run",
    )


STATISTICS = """\
# pxname,svname,status,type,check_status,check_code,last_chk,check_desc,
default,FRONTEND,OPEN,0,,,,,
default,127.0.0.1:2200,UP,2,L7OK,200,,Layer7 check passed,
default,127.0.0.1:2201,DOWN,2,L7STS,503,Service Unavailable,Layer7 wrong status,
default,127.0.0.1:2202,DOWN,2,L4CON,,Connection refused,Layer4 connection problem,
default,BACKEND,UP,1,,,,,
default.standby,127.0.0.1:2200,no check,2,,,,,
"""


def test_statistics_are_read():
    rows = [row for row in status.parse(STATISTICS) if row["type"] == "2" and row["pxname"] == "default"]
    assert [status.server(row) for row in rows] == [
        Server("default", "127.0.0.1:2200", True, False, "Layer7 check passed"),
        Server("default", "127.0.0.1:2201", False, True, "Service Unavailable"),
        Server("default", "127.0.0.1:2202", False, False, "Connection refused"),
    ]


@pytest.mark.parametrize(
    "wanted, loaded, refused, expected",
    [
        ("new\n# The end.", None, None, True),
        ("new\n# The end.", "old\n# The end.", None, True),
        ("new\n# The end.", "old\n# The end.", "new\n# The end.", False),
        ("same\n# The end.", "same\n# The end.", None, False),
        ("half of it", "old\n# The end.", None, False),
        (None, "old\n# The end.", None, False),
    ],
)
def test_only_what_is_complete_and_new_is_loaded(wanted, loaded, refused, expected):
    assert serve.decide(wanted, loaded, refused) is expected


def test_a_configuration_that_cannot_be_written_ends_nothing_and_is_tried_again(tmp_path, monkeypatch):
    for name in ("etc", "var/run"):
        (tmp_path / name).mkdir(parents=True)
    config = Config("erp5-balancer", str(tmp_path), "/haproxy", ())
    config.loaded.write_text("old\n# The end.\n")
    config.wanted.write_text("new\n# The end.\n")
    made, write = serve.Balancer(config), process.write_atomically

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process, "run", lambda *_, **__: None)
    monkeypatch.setattr(process, "write_atomically", full)
    made.look()
    assert config.loaded.read_text().startswith("old")
    monkeypatch.setattr(process, "write_atomically", write)
    made.look()
    assert config.loaded.read_text().startswith("new")


def test_the_mark_of_the_end_is_the_templates():
    template = Path(__file__).parents[3] / "stack/erp5/balancer/haproxy.cfg.in"
    assert template.read_text().endswith(f"\n{serve.END}\n")
