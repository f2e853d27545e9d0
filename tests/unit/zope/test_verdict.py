# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promises of a partition of Zopes say: the whole line."""

import pytest

from slapos.recipe.erp5.verdict import Verdict
from slapos.recipe.erp5.zope import verdict
from slapos.recipe.erp5.zope.listening import Answer
from slapos.recipe.erp5.zope.standby_decide import FAILING, HELD, STARTING, WAITING
from tests.unit.zope.standings import BACKUP, HOLDS, NOW, ago, killed, standing, zope
from tests.unit.zope.test_instance import CONFIG

NAMED = "the NEO cluster main"


def judged(*zopes, **database):
    return verdict.standby(CONFIG, standing(*zopes, **database), NOW)


def good(sentence):
    return Verdict(True, (sentence,))


def bad(*sentences):
    return Verdict(False, sentences)


def test_zopes_that_serve():
    serving = "web-0, web-1 are serving: its database serves"
    assert judged(zope(), zope("web-1")) == good(serving)
    held = zope("jobs-0", HELD, HOLDS)
    assert judged(zope(), held) == good(f"web-0 is serving: its database serves; jobs-0 is held: {HOLDS}")


@pytest.mark.parametrize("state", ["BACKINGUP", "STARTING_BACKUP", "STOPPING_BACKUP"])
def test_a_replica_is_waited_for(state):
    waiting = zope(state=WAITING, reason=BACKUP)
    assert judged(waiting, state=state) == good(f"web-0 is waiting: {BACKUP}")


def test_whoever_does_not_serve_though_the_database_does():
    """Whatever the parameters expect; but a Zope takes a while to start, and only from when the database serves on."""
    assert judged(zope(state=STARTING, reason="it was just started", since=60)).good
    assert judged(zope(state=WAITING, reason="its port is another process's still"), since=60).good
    late = zope(state=STARTING, reason="it was just started", since=200)
    assert judged(late, zope("web-1")) == bad(
        f"web-0 is starting since {ago(200)} (it was just started), expected it to serve as {NAMED} is RUNNING: read"
        " var/log/web-0-event.log and the log of zope-standby"
    )


def test_a_database_that_is_away():
    waiting = zope(state=WAITING, reason=f"{NAMED} does not answer")
    assert judged(waiting, state="", since=30).good
    assert judged(waiting, state="", since=90, detail="no admin answers") == bad(
        f"{NAMED} does not answer since {ago(90)} (no admin answers), expected it to serve, or to be a replica: start"
        " it, or look at the network between"
    )
    assert judged(waiting, state="RECOVERING", since=90).sentences == (
        f"{NAMED} is RECOVERING since {ago(90)}, expected it to serve, or to be a replica: start it, or look at the"
        " network between",
    )
    # Nobody waits for it; and who serves does without the admins that tell.
    assert judged(zope(state=HELD, reason=HOLDS), state="", since=90).good
    assert judged(zope(), state="", since=90).good


def test_a_zope_that_died_is_told_for_a_while():
    assert judged(zope(ends=(killed(2000), killed(60)))) == bad(
        f"web-0 was killed by SIGKILL at {ago(60)}, which nobody had asked for, after 42 s, and was started again (once"
        " in the last 15 min), expected no end that nobody asked for: read its logs for the cause; this is said for"
        " 15 min"
    )
    assert judged(zope(ends=(killed(2000),))).good
    failing = zope(state=FAILING, reason="it was killed", ends=(killed(70), killed(2)), next_start=ago(-2))
    assert judged(failing) == bad(
        f"web-0 was killed by SIGKILL at {ago(2)}, which nobody had asked for, after 42 s, expected it to run: read its"
        f" logs and remove the cause; it starts again by itself at {ago(-2)} (2 times in the last 15 min)"
    )


def test_without_a_supervisor():
    (said,) = verdict.standby(CONFIG, None, NOW).sentences
    assert said == (
        "no standby supervisor listens on /p/var/run/zope.standby, expected it to run: process the instance (slapos"
        " node instance) to start it"
    )


def answer(name="web-0", state="", error=""):
    return Answer(name, "10.0.0.2:22000", state, error)


def test_whoever_is_believed_to_serve_and_does_not():
    """zope-listening is not there on a replica, nor after its takeover."""
    mute, starts = answer(error="nothing within 10 s"), answer("web-1", state="starting")
    known = standing(zope(), zope("web-1"))
    assert verdict.standby(CONFIG, known, NOW, [mute, starts]) == bad(
        "web-0 is serving, but does not answer at 10.0.0.2:22000: nothing within 10 s, expected a page: look whether"
        " all its threads are busy; bin/zope-restart starts it anew"
    )
    assert verdict.standby(CONFIG, known, NOW, zeo="Connection refused") == bad(
        f"{NAMED} does not answer (Connection refused), and web-0, web-1 can show what is in memory alone, expected it"
        " to serve: see the promise zeo of its partition, or look at the network between"
    )
    waits = standing(zope(state=WAITING, reason="x", since=1), state="", since=1)
    assert verdict.standby(CONFIG, waits, NOW, zeo="Connection refused") == good("web-0 is waiting: x")


def test_who_answers():
    assert verdict.listening([answer()]) == good("web-0 answers")
    assert verdict.listening([answer(), answer("web-1"), answer("jobs-0", HELD)]) == good(
        "web-0, web-1 answer; jobs-0 is held back"
    )
    assert verdict.listening([answer(state=WAITING), answer("web-1", error="nothing within 10 s")]) == bad(
        "web-0 answers 503 at 10.0.0.2:22000 as it is waiting, expected a page: the promise zope-standby says why",
        "web-1 does not answer at 10.0.0.2:22000: nothing within 10 s, expected a page: look whether all its threads"
        " are busy, and at the promise zope-standby",
    )
