# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page, status.json and the metrics tell of a partition's Zopes, from what was seen of them."""

import dataclasses

import pytest

from slapos.recipe.erp5.control import metrics as prometheus
from slapos.recipe.erp5.control.sampler import Look, Sample
from slapos.recipe.erp5.zope import face, facts, metrics, service
from slapos.recipe.erp5.zope.actions import ACTIONS
from slapos.recipe.erp5.zope.standby_decide import HELD, STARTING, WAITING
from tests.unit.zope.standings import BACKUP, HOLDS, NOW, ago, killed, standing, zope
from tests.unit.zope.test_instance import CONFIG


class Seen:
    """A sampler that has looked once, or not yet."""

    def __init__(self, *found) -> None:
        self.look = Look(NOW, Sample(ago(0)), found[0]) if found else None


def gathered(tmp_path, *found):
    (tmp_path / "srv").mkdir(exist_ok=True)
    config = dataclasses.replace(CONFIG, partition=str(tmp_path))
    return facts.gather(config, Seen(*found), NOW)


SERVING = standing(zope(), zope("web-1"))
MIXED = standing(zope(), zope("web-1", STARTING, "it was just started", 5))
WAITS = standing(zope("web-0", WAITING, BACKUP), zope("web-1", WAITING, BACKUP), state="BACKINGUP")
HOLD = standing(zope("web-0", HELD, HOLDS), zope("web-1", HELD, HOLDS), state="", held=["*"], detail="no admin")


@pytest.mark.parametrize(
    ("found", "role", "aside", "usual"),
    [
        (SERVING, "Serving", "the NEO cluster main is RUNNING", ("hold", "restart")),
        (MIXED, "1 of 2 serving", "the NEO cluster main is RUNNING", ("hold", "restart")),
        (WAITS, "Waiting", "the NEO cluster main is BACKINGUP", ("hold", "restart")),
        (HOLD, "Held", "its database is silent", ("release",)),
        (None, "No standby supervisor", "", ()),
    ],
)
def test_the_role(tmp_path, found, role, aside, usual):
    shown = face.of(gathered(tmp_path, found))
    assert (shown.role, shown.aside, shown.usual) == (role, aside, usual)
    assert set(shown.usual) <= set(ACTIONS)


def test_before_anybody_has_looked(tmp_path):
    found = gathered(tmp_path)
    shown = face.of(found)
    assert (shown.role, found.problems, found.summary) == ("Not known yet", (), "")
    assert [(row.name, row.text) for row in shown.care] == [("web-0", "not known"), ("web-1", "not known")]


def test_all_of_it(tmp_path):
    ended = zope("web-1", ends=(killed(2000),))
    found = gathered(tmp_path, standing(zope("web-0", HELD, HOLDS), ended, held=["web"]))
    shown = face.of(found)
    since = "2026-03-01 11:00:00 UTC"
    assert {row.name: row.text for row in shown.details} == {
        "Database": "the NEO cluster main",
        "Its state": f"RUNNING since {since}",
        "Held back": "web",
        "Address of web-0": "10.0.0.2:22000",
        "Address of web-1": "[2001:db8::2]:22001",
    }
    assert [row.text for row in shown.care] == [
        f"held since {since}: {HOLDS}",
        f"serving since {since}: its database serves; it last was killed by SIGKILL at 2026-03-01 11:26:40 UTC",
    ]
    assert found.summary == f"web-0 is held: {HOLDS}; web-1 is serving: its database serves"


def test_problems_are_those_of_the_promise(tmp_path):
    found = gathered(tmp_path, standing(zope(ends=(killed(60),))))
    assert len(found.problems) == 1 and found.problems[0].startswith("web-0 was killed by SIGKILL at ")
    (problem,) = gathered(tmp_path, None).problems
    assert problem.startswith("no standby supervisor listens on ")


def test_no_password_is_told_to_anybody(tmp_path):
    config = dataclasses.replace(CONFIG, mysql_urls=("mysql://user:secret@host:1/db",))
    assert "secret" not in repr(config)
    assert "secret" not in repr(gathered(tmp_path, SERVING))


def samples(found):
    lines = prometheus.text(metrics.of(found)).decode().splitlines()
    return {line.split(" ")[0]: line.split(" ")[1] for line in lines if not line.startswith("#")}


def test_metrics(tmp_path):
    found = samples(gathered(tmp_path, standing(zope(ends=(killed(60),)), zope("web-1", WAITING, BACKUP))))
    assert found["zope_supervised"] == found["zope_database_running"] == "1.0"
    assert found['zope_state{family="web",state="serving",zope="web-0"}'] == "1.0"
    assert found['zope_state{family="web",state="serving",zope="web-1"}'] == "0.0"
    assert found['zope_state{family="web",state="waiting",zope="web-1"}'] == "1.0"
    assert found['zope_ends{family="web",zope="web-0"}'] == "1.0"
    assert set(samples(gathered(tmp_path))) == {"zope_supervised", "zope_action_running"}


def test_homes_of_zopes_that_are_not_asked_for_any_more_are_removed(tmp_path):
    config = dataclasses.replace(CONFIG, partition=str(tmp_path))
    for name in ("web-0", "gone-0"):
        config.home(name).mkdir(parents=True)
        (config.home(name) / "inituser").touch()
    service.SERVICE.prepare(config)
    assert [path.name for path in config.homes.iterdir()] == ["web-0"]
