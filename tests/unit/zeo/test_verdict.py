# SPDX-License-Identifier: GPL-2.0-or-later
"""What the promises, the page and the metrics say of a ZEO server and its backups."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import metrics as prometheus
from slapos.recipe.erp5.control.configuration import Control
from slapos.recipe.erp5.control.sampler import Look, Sample
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.supervisor import RUNNING, STOPPED, WAITING, Ended, Supervised
from slapos.recipe.erp5.zeo import config as configuration
from slapos.recipe.erp5.zeo import face, facts, jobs, metrics, sampler, start, status, verdict
from slapos.recipe.erp5.zeo.config import Backup, Config, Software
from slapos.recipe.erp5.zeo.status import Backups, Server, Snapshot, Storage
from tests.unit import test_repository

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
AT = times.text(NOW)
HOUR = timedelta(hours=1)


def make(partition: str = "/p", **changes) -> Config:
    config = Config(
        instance="test",
        partition=partition,
        software=Software("/zope", "/logrotate", "/zstd"),
        host="::1",
        port=18000,
        storages=("root",),
        backup=Backup(True, "daily", 7),
        control=Control("::1", 28000),
    )
    return dataclasses.replace(config, **changes)


CONFIG = make()


def supervised(state: str = RUNNING, *ends: Ended) -> Supervised:
    return Supervised(1, 2, state, AT, AT, ends, ())


def server(**changes) -> Server:
    return dataclasses.replace(Server(CONFIG, NOW, supervised(), "", (Storage("root", 2048),)), **changes)


def test_the_golden_configuration_can_be_loaded():
    golden = Path(test_repository.ROOT, "tests/render/golden")
    config = configuration.load(golden / "zeo-everything/etc/zeo.json")
    assert (config.address, config.storages, config.backup.retention_days) == ("[::1]:18000", ("root", "catalog-2"), 30)
    assert json.loads((golden / "zeo-everything/published.json").read_text())["zeo-address"] == config.address


# ---- the server


def test_a_server_that_is_well():
    judged = verdict.server(server(unserved=("old",)))
    assert judged.good
    assert judged.sentences == (
        "ZEO answers at [::1]:18000 and serves root (2.0 KiB); it does not serve old, which stays as it is",
    )


SILENT = (
    "no ZEO server answers at [::1]:18000 (refused), expected ours to: see the log of the service zeo, and"
    " var/log/zeo.log; one without an index reads its whole database first"
)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (server(silent="refused"), [SILENT]),
        (
            server(silent="refused", supervised=None),
            ["no supervisor of the service zeo runs, expected it to r", SILENT],
        ),
        (server(silent="refused", supervised=supervised(STOPPED)), ["the service zeo was stopped at "]),
        (
            server(silent="refused", supervised=supervised(WAITING, Ended(AT, "ended with status 1", 2.0))),
            ["the service zeo ended with status 1 at "],
        ),
        (
            server(supervised=supervised(RUNNING, Ended(AT, "was killed by SIGKILL", 2.0))),
            ["the service zeo was killed by SIGKILL at "],
        ),
        (
            server(storages=(Storage("root", 0, "/p/srv/zodb/root.fs"),)),
            ["/p/srv/zodb/root.fs is not there, expected the database that was made once: bring it back, for instance"],
        ),
    ],
)
def test_a_server_that_is_not(seen, said):
    judged = verdict.server(seen)
    assert not judged.good and len(judged.sentences) == len(said)
    assert [text.startswith(beginning) for text, beginning in zip(judged.sentences, said, strict=True)] == [True] * len(
        said
    )


# ---- the backups


MADE = Backups("root", "/p/b", NOW - 100 * HOUR, NOW - 12 * HOUR, "0001/x.fsz", "", 1, 2048)


def snapshot(*backups: Backups, job: Job | None = None, config: Config = CONFIG, heartbeat: str = AT) -> Snapshot:
    job = job or Job("backup", outcome="done", next_run="2026-11-23T00:00:00Z")
    return Snapshot(config, NOW, State(heartbeat, "", (job,)), backups or (MADE,))


def said(seen: Snapshot, good: bool) -> str:
    judged = verdict.backups(seen)
    assert judged.good == good
    return "\n".join(judged.sentences)


GOOD = "root was last backed up at 2026-11-22T00:00:00Z, the newest of 1 chain is 0001/x.fsz, 2.0 KiB in all"


def test_backups_that_are_well():
    assert said(snapshot(), True) == f"{GOOD}; the next run is due at 2026-11-23T00:00:00Z"
    # One missed run is forgiven.
    said(snapshot(dataclasses.replace(MADE, last=NOW - 36 * HOUR)), True)


def test_backups_that_are_off():
    off = make(backup=Backup(False, "daily", 7))
    assert said(snapshot(config=off), True) == f"scheduled backups are off (backup.enable is false); {GOOD}"
    damaged = dataclasses.replace(MADE, damage="x is not as it was written")
    said(snapshot(damaged, config=off), False)


NONE = dataclasses.replace(MADE, last=None, newest="", chains=0)
NEW = Backups("root", "/p/b", NOW - HOUR)
AGAIN = "2026-11-22T12:00:10Z"


def test_none_yet():
    assert said(snapshot(NEW), True).startswith("there is no backup of root yet; ")
    assert said(snapshot(dataclasses.replace(NEW, created=None)), True).startswith("there is no database of root to ")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (
            snapshot(dataclasses.replace(MADE, last=NOW - 61 * HOUR)),
            "a backup of root is missing: the last good one was begun 2 days ago in /p/b, expected one begun at"
            " 2026-11-21T00:00:00Z or later (backup.periodicity is daily): run bin/zeo-backup-now",
        ),
        (
            snapshot(NONE),
            "a backup of root is missing: there is none in /p/b, expected one begun at 2026-11-21T00:00:00Z or later"
            " (backup.periodicity is daily): run bin/zeo-backup-now",
        ),
        (
            snapshot(dataclasses.replace(MADE, damage="x is not as it was written")),
            "x is not as it was written, expected the newest backup of root to be whole: run bin/zeo-backup-now",
        ),
        (snapshot(dataclasses.replace(NEW, unusable="no record")), "no record"),
        (
            snapshot(job=Job("backup", last_start=AT, outcome="failed", message="no room", retry=AGAIN)),
            "the last scheduled run, of 2026-11-22T12:00:00Z, failed: no room; expected a backup: remove the cause; it"
            f" is tried again at {AGAIN}, or run bin/zeo-backup-now",
        ),
        (
            snapshot(heartbeat=""),
            "the scheduler never ran, expected a sign of life every 30 s: read the log of the service zeo-control, and"
            " process the instance (slapos node instance --all) to start it",
        ),
    ],
)
def test_backups_that_are_not(seen, expected):
    assert said(seen, False) == expected


def test_a_clock_that_was_ahead_does_not_hide_that_backups_are_missing():
    assert said(snapshot(dataclasses.replace(MADE, last=NOW + 900 * HOUR)), False).startswith(
        "a backup of root is missing: there is none in /p/b, expected one begun at "
    )


def test_a_periodicity_without_a_moment():
    config = make(backup=Backup(True, "never", 7))
    assert said(snapshot(config=config), False).startswith("backup.periodicity is 'never', which is neither daily nor")


# ---- what starts, and what is planned


def test_a_database_that_was_made_once_is_not_made_again(tmp_path):
    config = make(str(tmp_path))
    config.database("root").parent.mkdir(parents=True)
    assert start.is_to_be_made(config, "root")
    config.database("root").touch()
    assert start.is_to_be_made(config, "root")
    config.database("root").write_text("FS21")
    assert not start.is_to_be_made(config, "root")
    start.mark_as_made(config, "root")
    assert status.created(config, "root") is not None
    for spoil in (lambda path: path.write_text(""), lambda path: path.unlink()):
        spoil(config.database("root"))
        with pytest.raises(Refused, match=r"root\.fs is not there, expected the database that was made once"):
            start.is_to_be_made(config, "root")
    assert status.storage(config, "root").lost == str(config.database("root"))


def test_the_jobs(tmp_path):
    config = make(str(tmp_path))
    backup, logs = jobs.plans(config, Path("/p/etc/zeo.json"))
    assert (backup.name, backup.periodicity, backup.at_once, backup.last_success) == ("backup", "daily", True, "")
    assert logs.name == "log-rotation"
    config.backups("root").mkdir(parents=True)
    (config.backups("root") / "last.json").write_text(json.dumps({"at": AT}))
    assert jobs.plans(config, Path("/p"))[0].last_success == AT
    assert jobs.plans(dataclasses.replace(config, storages=("root", "new")), Path("/p"))[0].last_success == ""
    off = dataclasses.replace(config, backup=Backup(False, "daily", 7))
    assert [plan.name for plan in jobs.plans(off, Path("/p"))] == ["log-rotation"]


# ---- the page


class Seen:
    """A sampler that has looked once, or never."""

    def __init__(self, found: Server | None) -> None:
        self.look = Look(NOW, Sample(AT), found) if found else None


def gathered(folder: Path, found: Server | None) -> facts.Facts:
    return facts.gather(make(str(folder)), Seen(found), NOW)  # type: ignore[arg-type]


def test_the_page(tmp_path):
    shown = face.of(gathered(tmp_path, server(unserved=("old",))))
    assert (shown.role, shown.usual) == ("Serves", ())
    assert [(row.name, row.text) for row in shown.details] == [
        ("Address", "[::1]:18000"),
        ("Database root", "2.0 KiB"),
        ("Database old", "not served, and kept"),
    ]
    assert [(row.name, row.text) for row in shown.care] == [
        ("Last backup of root", "never"),
        ("Next backup", "not scheduled"),
    ]
    assert face.of(gathered(tmp_path, server(silent="refused"))).role == "Does not answer"
    assert face.of(gathered(tmp_path, None)).role == "Nobody has looked yet"


def test_problems_of_the_page_are_those_of_the_promises(tmp_path):
    problems = gathered(tmp_path, server(silent="refused")).problems
    assert problems[0] == SILENT
    assert problems[1].startswith("the scheduler never ran")


def test_status_json_can_be_made_of_it(tmp_path):
    config = make(str(tmp_path))
    config.database("root").parent.mkdir(parents=True)
    start.mark_as_made(config, "root")
    config.backups("root").mkdir(parents=True)
    (config.backups("root") / "last.json").write_text(json.dumps({"at": AT}))
    content = dataclasses.asdict(facts.gather(config, Seen(server()), NOW)) | {"now": AT}  # type: ignore[arg-type]
    assert json.loads(json.dumps(content))["backups"][0]["last"] == AT


def test_the_metrics(tmp_path):
    found = gathered(tmp_path, server())
    found = dataclasses.replace(found, backups=(facts.backed(MADE),))
    lines = prometheus.text(metrics.of(found)).decode().splitlines()
    samples = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}
    assert (samples["zeo_up"], samples['zeo_database_bytes{storage="root"}']) == (1, 2048)
    assert samples['zeo_backup_bytes{storage="root"}'] == 2048
    assert samples['zeo_backup_timestamp_seconds{storage="root"}'] == (NOW - 12 * HOUR).timestamp()
    assert "zeo_up" not in prometheus.text(metrics.of(gathered(tmp_path, None))).decode()


def test_the_sampler_greets_once_a_minute_and_after_a_restart(monkeypatch):
    greeted = []
    pids = iter([2, 2, 2, 3, 3])
    answers = iter(["refused", "", "", ""])

    def silence(host: str, port: int) -> str:
        greeted.append(port)
        return next(answers)

    monkeypatch.setattr(status, "silence", silence)
    monkeypatch.setattr(
        sampler.supervisor, "status", lambda service: dataclasses.replace(supervised(), child_pid=now[1])
    )
    sight = sampler.Sight()
    said = []
    for seconds in (0, 5, 10, 15, 76):
        now = NOW + timedelta(seconds=seconds), next(pids)
        said.append((sight.look(CONFIG, now[0]).status.silent, len(greeted)))
    assert said == [("refused", 1), ("", 2), ("", 2), ("", 3), ("", 4)]
