# SPDX-License-Identifier: GPL-2.0-or-later
"""The balancer with a real haproxy in front of small servers: who answers, with what, whatever these do."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.service.balancer_fixtures import REASON, Balancer, FakeZope, balancing
from tests.service.servers import wait_for
from tests.zope_pages import watching

MEMORY = 20 << 10
"""KiB of resident memory that each of haproxy's processes, and what follows its configuration, must not exceed."""


def pages(balancer: Balancer, times: int = 10, **options: str) -> list[tuple[int, str]]:
    """(status, body) of several answers."""
    return [(page.status, page.body) for page in (balancer.get(**options) for _ in range(times))]


def test_two_zopes_share_the_work_and_a_client_stays_with_one(partition: Path):
    zopes = [FakeZope(serves=True).start(), FakeZope(serves=True).start()]
    with balancing(partition, default=zopes) as balancer:
        balancer.wait_for("family default: 2 of 2 Zopes serve")
        assert {body for _, body in pages(balancer)} == {zope.address for zope in zopes}
        first = balancer.get()
        cookie = first.headers["Set-Cookie"].split(";")[0]
        assert cookie.startswith("zope-default=") and "127.0.0.1" not in cookie
        assert {balancer.get(Cookie=cookie).body for _ in range(10)} == {first.body}


def test_the_reason_of_zopes_on_standby_gets_through(partition: Path):
    with balancing(partition, default=[FakeZope().start(), FakeZope().start()]) as balancer:
        for _ in range(3):
            page = balancer.get()
            assert (page.status, page.state, page.headers["Retry-After"]) == (503, "waiting", "5")
            assert REASON in page.body
        balancer.wait_for("family default: 0 of 2 Zopes serve, 2 stand by")
        assert balancer.get().state == "waiting"
        assert balancer.get(method="POST").state == "waiting"
        assert balancer.promise()[0]


def test_when_nobody_answers_a_page_of_our_own_says_so(partition: Path):
    with balancing(partition, default=[FakeZope(), FakeZope()]) as balancer:
        wait_for(lambda: not balancer.promise()[0], "a promise that complains")
        page = balancer.get()
        assert (page.status, page.headers["Retry-After"], page.state) == (503, "5", "")
        assert "No Zope behind this address answers" in page.body
        assert "none of the Zopes of the family default answers: " in balancer.promise()[1]


@pytest.mark.parametrize("count", [2, 5])
def test_once_one_zope_serves_it_is_503_no_more(partition: Path, count: int):
    """Never 200 and then 503: also before haproxy has noticed, and while the others stand by still."""
    zopes = [FakeZope().start() for _ in range(count)]
    with balancing(partition, default=zopes) as balancer:
        balancer.wait_for(f"family default: 0 of {count} Zopes serve, {count} stand by")
        with watching(balancer.get) as watcher:
            wait_for(lambda: len(watcher.seen) > 5, "answers before")
            zopes[-1].serves = True
            balancer.wait_for(f"family default: 1 of {count} Zopes serve, {count - 1} stand{'s' * (count == 2)} by")
            seen = len(watcher.seen)
            wait_for(lambda: len(watcher.seen) > seen + 10, "answers after")
            for zope in zopes:
                zope.serves = True
            balancer.wait_for(f"family default: {count} of {count} Zopes serve")
        statuses = [seen.page.status if seen.page else seen.error for seen in watcher.seen]
        first = statuses.index(200)
        assert set(statuses[:first]) == {503} and set(statuses[first:]) == {200}


def test_of_two_zopes_one_may_go_and_nobody_notices(partition: Path):
    zopes = [FakeZope(serves=True).start(), FakeZope(serves=True).start()]
    with balancing(partition, default=zopes) as balancer:
        balancer.wait_for("family default: 2 of 2 Zopes serve")
        mine = next(page for page in (balancer.get() for _ in range(20)) if page.body == zopes[0].address)
        cookie = mine.headers["Set-Cookie"].split(";")[0]
        zopes[0].serves = False  # restarted: its standby supervisor answers
        assert [balancer.get(Cookie=cookie).body for _ in range(5)] == [zopes[1].address] * 5
        balancer.wait_for("family default: 1 of 2 Zopes serve, 1 stands by")
        zopes[0].stop()  # gone with all its partition
        assert pages(balancer) == [(200, zopes[1].address)] * 10
        wait_for(lambda: "and of " + zopes[0].address in balancer.promise()[1], "a promise that names it")
        assert balancer.promise()[0]


def test_what_changes_nothing_is_asked_again_and_what_may_is_never_sent_twice(partition: Path):
    zopes = [FakeZope(serves=True).start(), FakeZope(serves=True).start()]
    with balancing(partition, default=zopes) as balancer:
        balancer.wait_for("family default: 2 of 2 Zopes serve")
        zopes[0].drops = True  # it dies with the request in its hands
        assert [balancer.get().body for _ in range(6)] == [zopes[1].address] * 6
        assert zopes[0].asked
        zopes[1].drops = True
        for zope in zopes:
            zope.asked.clear()
        assert balancer.get(method="POST").status == 502
        zopes[0].drops = zopes[1].drops = False
        zopes[0].serves = zopes[1].serves = False  # a standby supervisor has not done anything with it either
        assert balancer.get(method="POST").status == 503
        assert [asked for zope in zopes for asked in zope.asked] == [("POST", b"a body")] * 2


def test_a_post_that_reached_nobody_goes_to_another_zope(partition: Path):
    zopes = [FakeZope(serves=True).start(), FakeZope(serves=True).start()]
    with balancing(partition, default=zopes) as balancer:
        balancer.wait_for("family default: 2 of 2 Zopes serve")
        zopes[0].stop()
        assert pages(balancer, 6, method="POST") == [(200, zopes[1].address)] * 6
        assert zopes[1].asked == [("POST", b"a body")] * 6


def test_a_changed_list_is_loaded_under_load_and_nothing_is_lost(partition: Path):
    zopes = [FakeZope(serves=True).start() for _ in range(3)]
    with balancing(partition, default=zopes[:1]) as balancer:
        balancer.wait_for("family default: 1 of 1 Zope serves")
        before = balancer.supervised().child_pid, balancer.haproxy()
        statuses: list[object] = []
        enough = threading.Event()

        def load() -> None:
            while not enough.is_set():
                try:
                    statuses.append(balancer.get().status)
                except Exception as error:
                    statuses.append(repr(error))

        threads = [threading.Thread(target=load) for _ in range(4)]
        slow: list[int] = []
        for thread in threads:
            thread.start()
        try:
            for count in (2, 3, 1, 3):
                zopes[0].slow = 2.0  # some requests are in the old process's hands for longer than the reload takes
                long = threading.Thread(target=lambda: slow.append(balancer.get().status))
                long.start()
                balancer.configure(default=zopes[:count], **({"other": zopes[:1]} if count == 3 else {}))
                words = [f"family default: {count} of {count} Zope{'s serve' if count > 1 else ' serves'}"]
                words += ["family other: 1 of 1 Zope serves"] if count == 3 else []
                balancer.wait_for("; ".join(words))
                zopes[0].slow = 0.0
                long.join()
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        assert set(statuses) == {200} and slow == [200] * 4
        assert (balancer.supervised().child_pid, balancer.haproxy()) == before
        assert {body for _, body in pages(balancer, family="default")} == {zope.address for zope in zopes}
        assert pages(balancer, 1, family="other") == [(200, zopes[0].address)]


def test_a_configuration_that_is_none_is_refused_and_the_earlier_one_stays(partition: Path):
    zope = FakeZope(serves=True).start()
    with balancing(partition, default=[zope]) as balancer:
        balancer.wait_for("family default: 1 of 1 Zope serves")
        good = balancer.config.wanted.read_text()
        balancer.config.wanted.write_text(good[: len(good) // 2])  # it is being written
        balancer.config.wanted.write_text(good.replace("mode http", "mode nonsense"))
        wait_for(lambda: not balancer.promise()[0], "a promise that complains")
        assert balancer.promise()[1].startswith(
            "haproxy goes on with an earlier configuration, expected it to take the last one: cannot take over"
            " etc/haproxy.cfg: haproxy ended with status 1: "
        )
        assert pages(balancer, 3) == [(200, zope.address)] * 3
        balancer.stop()
        balancer.start()  # with the earlier one
        assert pages(balancer, 3) == [(200, zope.address)] * 3
        balancer.config.wanted.write_text(good)
        balancer.wait_for("family default: 1 of 1 Zope serves")


def test_a_zope_whose_name_nobody_knows_is_one_that_is_down(partition: Path):
    class Unknown(FakeZope):
        address = "nobody.invalid:2200"

    zope = FakeZope(serves=True).start()
    with balancing(partition, default=[zope, Unknown()], other=[zope]) as balancer:
        wait_for(
            lambda: "family default: 1 of 2 Zopes serve, and of nobody.invalid:2200 (" in balancer.promise()[1], "it"
        )
        assert pages(balancer, 3, family="default") == [(200, zope.address)] * 3
        assert pages(balancer, 1, family="other") == [(200, zope.address)]


@pytest.mark.parametrize("victim", ["master", "worker", "program"])
def test_what_is_killed_comes_back_and_the_promise_tells(partition: Path, victim: str):
    zope = FakeZope(serves=True).start()
    with balancing(partition, default=[zope]) as balancer:
        balancer.wait_for("family default: 1 of 1 Zope serves")
        program, master = balancer.supervised().child_pid, balancer.haproxy()
        (worker,) = map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())
        os.kill({"master": master, "worker": worker, "program": program}[victim], signal.SIGKILL)
        wait_for(lambda: balancer.supervised().child_pid not in (0, program), "another start")
        wait_for(lambda: not balancer.snapshot().silence, "a haproxy that answers")
        assert pages(balancer, 3) == [(200, zope.address)] * 3
        good, said = balancer.promise()
        assert not good and said.startswith("the service balancer ") and "was started again (once" in said
        for pid in (master, worker):
            wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of the old processes")


def test_it_takes_little_memory(partition: Path):
    with balancing(partition, default=[FakeZope(serves=True).start()]) as balancer:
        master = balancer.haproxy()
        (worker,) = map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())
        for pid in (balancer.supervised().child_pid, master, worker):
            resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
            assert int(resident.split()[1]) < MEMORY, resident
