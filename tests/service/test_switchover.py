# SPDX-License-Identifier: GPL-2.0-or-later
"""Switchover between whole partitions, under a writer; killed at each place on either side, as the README has it."""

import re
import statistics
import time

import pytest

from slapos.recipe.erp5.control import action
from slapos.recipe.erp5.mariadb import role_state, switchover
from slapos.recipe.erp5.mariadb.role_state import Fence
from tests.service.acting import ended
from tests.service.role_fixtures import Instance, Writer, pair, roles
from tests.service.servers import wait_for

__all__ = ["pair", "roles"]


def follow(replica: Instance, primary: Instance) -> None:
    """Wait until it replicates: its threads were started, and connect a moment later."""
    wait_for(lambda: replica.follows(primary), f"{replica.name} to follow {primary.name}")


def test_under_load_and_back(roles):
    here, there = roles
    outages = []
    with Writer(here, there) as writer:
        for _ in range(4):
            began = time.monotonic()
            said = there.acted("switchover", control_url=here.takeover_url)
            writer.goes_on(there)
            outages.append(writer.outage(began))
            assert re.fullmatch(
                rf"this database is the primary now, without writes for \d+\.\d\d s, and {here.address} follows it",
                said,
            )
            assert there.role() == (False, True) and here.role() == (True, False)
            follow(here, there)
            here, there = there, here
    writer.assert_kept(here, there)
    # No time-out of a step was waited for, on a busy machine either; how long it really is: benchmarks/takeover.
    assert statistics.median(outages) < switchover.WAITING, outages
    print("write outages:", ", ".join(f"{outage:.3f} s" for outage in outages))


def test_a_fence_that_was_noted_alone_is_put_up_by_mariadb_control(roles):
    primary, replica = roles
    role_state.change(primary.config, fenced=Fence("its replica", "a takeover that was killed", "2026-11-22T01:00:00Z"))
    wait_for(lambda: primary.role() == (False, False), "the fence")
    primary.acted("resume", force=True)
    wait_for(primary.is_primary, "the primary")
    assert replica.follows(primary)


def test_without_the_primarys_token_nothing_is_done(roles):
    primary, replica = roles
    assert replica.refused("switchover") == (
        f"switchover is refused: the primary {primary.address} has to stop writing, which needs its own token: give the"
        " takeover-url that it publishes (option control-url, or the parameter replication.control-url)"
    )
    wrong = f"{primary.base}/#{'c' * 32}"
    assert replica.refused("switchover", control_url=wrong) == (
        f"switchover is refused: the primary cannot be asked: {primary.control_address} refuses: the proof is not one"
        " of this instance's token: give the takeover-url that it publishes now"
    )
    assert replica.refused("switchover", control_url=replica.takeover_url) == (
        f"switchover is refused: the control URL is that of {replica.address}, expected that of {primary.address},"
        " which this replica follows: give the takeover-url of that one"
    )
    assert primary.refused("switchover", control_url=replica.takeover_url) == (
        "switchover is refused: this database is a primary, expected a replica: run switchover on one of its replicas"
    )
    assert primary.is_primary() and replica.follows(primary)
    assert primary.state.hand_over is None


def test_a_fence_that_people_put_up_meanwhile_outlives_the_hand_over(roles):
    primary, replica = roles
    child = replica.act("switchover", place="before:mariadb.promote:promote", control_url=primary.takeover_url)
    replica.kill_control()
    assert ended(child)[0] == -9
    primary.acted("fence")
    replica.start_control()
    wait_for(lambda: primary.state.hand_over is None, "the answer that it was cancelled")
    wait_for(lambda: action.current(primary.config) is None, "the end of what mariadb-control does about it")
    assert primary.role() == (False, False)
    primary.acted("resume", force=True)
    wait_for(lambda: primary.is_primary() and replica.follows(primary), "both as before")


def test_a_takeover_fences_no_other_instance_than_its_primary(roles):
    """With its own takeover-url, as with that of any third instance."""
    primary, replica = roles
    assert replica.refused("takeover", control_url=replica.takeover_url) == (
        f"the primary at {primary.address} answers and could not be fenced ({replica.control_address} says: the"
        f" control URL is that of {replica.address}, expected that of {primary.address}: give the takeover-url of that"
        " one), expected it to refuse writes: this database is a replica still, and the other one as it was; remove the"
        " cause, or force it"
    )
    assert primary.role() == (False, True) and replica.follows(primary)


def test_an_unreachable_new_primary_leaves_a_fenced_old_one_that_asks_again(roles):
    """The way from the old primary to the new one is cut while it waits; it asks until it is there again."""
    primary, replica = roles
    with Writer(primary, replica) as writer:
        child = replica.act("switchover", place="before:mariadb.promote:promote", control_url=primary.takeover_url)
        replica.kill_control()
        assert ended(child)[0] == -9
        wait_for(lambda: "does not answer" in primary.log() or "HTTP status 502" in primary.log(), "the question")
        assert not (primary.role()[1] and replica.role()[1])
        assert primary.state.hand_over is not None
        replica.start_control()
        now, _ = one_primary(primary, replica, writer)
        assert now is primary
    writer.assert_kept(primary, replica)


# ---- killed on the way: one writable primary remains, with all that was taken, and nobody has to call anything


def one_primary(primary: Instance, replica: Instance, writer: Writer) -> tuple[Instance, Instance]:
    """The two, in their roles as they are in the end."""

    found: list[Instance] = []

    def settled() -> bool:
        found[:] = [one for one in (primary, replica) if one.is_primary()]
        others = [one for one in (primary, replica) if one not in found]
        return len(found) == len(others) == 1 and others[0].follows(found[0])

    wait_for(settled, f"one primary and its replica\n{primary.log()}\n{replica.log()}")
    (now,) = found
    writer.goes_on(now)
    return now, replica if now is primary else primary


PROGRAM = [
    ("after:mariadb.hand_over:begin", "stays"),
    ("after:mariadb.promote:begin", "stays"),
    ("before:mariadb.promote:promote", "stays"),
    ("before:mariadb.sql_replication:forget_primary", "stays"),
    ("after:mariadb.sql_replication:forget_primary", "changes"),
    ("after:mariadb.sql_role:set_writable", "changes"),
    ("before:mariadb.hand_over:end", "changes"),
    ("before:mariadb.switchover:_Switch._closing", "changes"),
]


@pytest.mark.parametrize(("place", "outcome"), PROGRAM)
def test_the_program_is_killed(roles, place, outcome):
    primary, replica = roles
    with Writer(primary, replica) as writer:
        child = replica.act("switchover", place=place, control_url=primary.takeover_url)
        assert ended(child)[0] == -9
        now, _ = one_primary(primary, replica, writer)
        assert now is (primary if outcome == "stays" else replica)
    writer.assert_kept(primary, replica)
    wait_for(lambda: primary.is_settled() and replica.is_settled(), "nothing that is left to do on either side")


@pytest.mark.parametrize(("place", "outcome"), PROGRAM)
def test_the_program_is_killed_and_called_again_at_once(roles, place, outcome):
    primary, replica = roles
    with Writer(primary, replica) as writer:
        child = replica.act("switchover", place=place, control_url=primary.takeover_url)
        assert ended(child)[0] == -9
        code, said = replica.in_turn("switchover", control_url=primary.takeover_url)
        assert code == 0 or "is a primary, expected a replica" in said, said
        now, _ = one_primary(primary, replica, writer)
        assert now is replica
    writer.assert_kept(primary, replica)


CONTROL = [
    ("before:mariadb.fence:fence", "stays"),
    ("before:mariadb.fence:_stop_writes", "stays"),
    ("after:mariadb.fence:fence", "stays"),
    ("before:mariadb.demote:become_replica", "changes"),
    ("before:mariadb.sql_replication:change_primary", "changes"),
    ("after:mariadb.sql_replication:change_primary", "changes"),
    ("before:mariadb.demote:finish", "changes"),
    ("after:mariadb.demote:finish", "changes"),
]


@pytest.mark.parametrize(("place", "outcome"), CONTROL)
def test_the_old_primarys_mariadb_control_is_killed(roles, place, outcome):
    primary, replica = roles
    primary.kill_control()
    primary.start_control(place)
    with Writer(primary, replica) as writer:
        code, said = ended(replica.act("switchover", control_url=primary.takeover_url))
        wait_for(lambda: primary.control.poll() is not None, f"the end of mariadb-control; the switchover said {said}")
        assert code == (1 if outcome == "stays" else 0), said
        if outcome == "stays":
            assert said.startswith("error: the switchover was cancelled, as ")
            assert "nobody is writable until it asks this instance by itself" in said
        primary.start_control()
        now, _ = one_primary(primary, replica, writer)
        assert now is (primary if outcome == "stays" else replica)
    writer.assert_kept(primary, replica)


@pytest.mark.parametrize(
    "place",
    ["before:mariadb.fence:_stop_writes", "after:mariadb.fence:fence", "after:mariadb.sql_replication:change_primary"],
)
def test_the_old_primarys_server_is_killed(roles, place):
    primary, replica = roles
    primary.kill_control()
    primary.start_control(place, str(primary.pid_file))
    with Writer(primary, replica) as writer:
        ended(replica.act("switchover", control_url=primary.takeover_url))
        one_primary(primary, replica, writer)
    writer.assert_kept(primary, replica)
    primary.kill_control()
    primary.start_control()


@pytest.mark.parametrize(
    ("place", "outcome"),
    [
        ("before:mariadb.promote:promote", "stays"),
        ("before:mariadb.sql_replication:forget_primary", "stays"),
        ("after:mariadb.sql_replication:forget_primary", "changes"),
        ("after:mariadb.sql_role:set_writable", "changes"),
    ],
)
def test_the_new_primarys_server_is_killed(roles, place, outcome):
    primary, replica = roles
    with Writer(primary, replica) as writer:
        child = replica.act("switchover", place=place, victim=str(replica.pid_file), control_url=primary.takeover_url)
        code, said = ended(child)
        assert code == 1
        if outcome == "stays":
            assert said.endswith(f"; {primary.address} is writable, as before")
        else:
            assert "this database has become the primary, and the rest was not completed" in said
        now, _ = one_primary(primary, replica, writer)
        assert now is (primary if outcome == "stays" else replica)
    writer.assert_kept(primary, replica)
