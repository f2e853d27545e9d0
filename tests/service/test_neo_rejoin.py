# SPDX-License-Identifier: GPL-2.0-or-later
"""An old primary of NEO comes back as a backup of the new one: as it is, or reset; and what a fence keeps from whom."""

import signal

import pytest

from slapos.recipe.erp5.neo import tid as tids
from tests.service.acting import ended
from tests.service.neo_role_fixtures import Site, Sites
from tests.service.servers import wait_for


def took_over(sites: Sites, **options: object) -> tuple[Site, Site]:
    """(old, new): the second has taken over from the first, which is fenced and knows where it was cut."""
    old, new = sites.pair(**options)
    new.acted("takeover", control_url=old.url)
    wait_for(lambda: new.state.fence_pending is None, "the old primary to be told")
    new.write(after="new")
    return old, new


def follows(old: Site, new: Site) -> None:
    """It follows, also after it was restarted, and what is written there arrives."""
    old.wait("BACKINGUP")
    assert not old.fenced() and old.state.rejoin is None
    old.stop()
    new.write(more="arrives")
    old.start()
    old.wait("BACKINGUP")
    old.wait_for_all_of(new)
    assert old.read() == new.read() == {"before": "kept", "after": "new", "more": "arrives"}


def test_an_old_primary_with_nothing_of_its_own_comes_back_as_it_is(sites: Sites):
    old, new = took_over(sites)
    said = old.acted("rejoin")
    assert said == "this cluster is a backup of new again, with all that it had"
    assert old.nodes[0].kept() == []
    assert old.acted("rejoin") == "this cluster is a backup of new already"
    follows(old, new)
    # And back again, by the same two actions.
    assert old.acted("takeover", control_url=new.url).endswith("; the old primary new is fenced")
    old.wait("RUNNING")


def test_foreign_transactions_are_refused_until_all_is_reset(sites: Sites):
    old, new = took_over(sites)
    old.acted("resume", force=True)
    old.wait("RUNNING")
    (foreign,) = old.write(foreign="only here")
    (latest,) = new.write(after="new")
    assert foreign < latest
    said = old.refused("rejoin", upstream_cluster="new", upstream_masters=new.masters)
    assert said.startswith(f"rejoin is refused: this cluster has 1 transaction that new lacks ({tids.text(foreign)} (")
    assert "so it is only possible with --reset" in said
    # What is refused has changed nothing: it goes on, and takes writes.
    assert (old.state.fenced, old.status().cluster_state) == (None, "RUNNING")
    old.write(foreign="still")
    said = old.acted("rejoin", reset=True, upstream_cluster="new", upstream_masters=new.masters)
    assert said == (
        "this cluster is a backup of new, and copies all of it anew; the old storages are kept on the nodes"
    )
    (kept,) = old.nodes[0].kept()
    assert kept.startswith("storage-0.sqlite.replaced-")
    old.wait_for_all_of(new)
    follows(old, new)


def test_without_a_takeover_the_whole_history_is_compared(sites: Sites):
    old, other = sites("old").start(), sites("new").start()
    for site, value in ((old, "here"), (other, "there")):
        site.wait("RUNNING")
        site.write(mine=value)
    said = old.refused("rejoin")
    assert said == (
        "rejoin is refused: nobody has said which cluster this one is to be a backup of: give what that publishes as"
        " neo-cluster and neo-masters (--upstream-cluster-file and --upstream-masters-file, or the same fields on the"
        " page)"
    )
    assert not old.fenced()
    said = old.refused("rejoin", upstream_cluster="new", upstream_masters=other.masters)
    assert "this cluster has " in said and " that new lacks (" in said
    assert old.state.fenced is None and old.read() == {"mine": "here"}
    other.stop()
    said = old.refused("rejoin", upstream_cluster="new", upstream_masters=other.masters)
    assert "the transactions here cannot be compared with those of new (new does not answer: " in said
    assert old.state.fenced is None and old.read() == {"mine": "here"}


def test_several_nodes_are_reset_together(sites: Sites):
    old = sites("old", nodes=2, replicas=1).start()
    old.wait("RUNNING")
    old.write(before="kept")
    new = sites("new", old).start()
    new.wait_for_all_of(old)
    new.acted("takeover", control_url=old.url)
    new.write(after="new")
    old.acted("rejoin", reset=True)
    assert [len(node.kept()) for node in old.nodes] == [1, 1]
    old.wait_for_all_of(new)
    follows(old, new)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("place", ["after:neo.nodes:require", "before:neo.rejoin:complete", "before:neo.rejoin:_wait"])
def test_killed_half_way_it_goes_on_by_itself(sites: Sites, place: str, reset: bool):
    old, new = took_over(sites)
    code, _ = ended(old.act("rejoin", place=place, reset=reset))
    assert code == -signal.SIGKILL
    if old.state.rejoin is None:
        code, said = old.in_turn("rejoin", reset=reset)
        assert code == 0, said
    wait_for(lambda: old.state.rejoin is None, "the rejoin to be completed")
    assert len(old.nodes[0].kept()) == reset
    old.wait_for_all_of(new)
    follows(old, new)


def test_nobody_writes_while_it_becomes_a_backup_again(sites: Sites):
    old, new = took_over(sites)
    with old.hostile_clients() as attempts:
        old.acted("rejoin")
        old.wait("BACKINGUP")
    assert attempts.written() == 0
    follows(old, new)


def test_fence_and_resume(sites: Sites):
    old = sites("old").start()
    old.wait("RUNNING")
    old.write(before="kept")
    said = old.acted("fence")
    assert said == "the masters of this cluster are stopped, over restarts too, until bin/neo-resume"
    assert old.fenced()
    old.stop()
    old.start()
    assert old.fenced()
    assert old.acted("resume") == "this cluster is fenced no longer, and RUNNING"
    assert old.read() == {"before": "kept"}
    assert old.outcomes() == [("fence", "done"), ("resume", "done")]
