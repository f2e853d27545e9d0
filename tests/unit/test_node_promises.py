# SPDX-License-Identifier: GPL-2.0-or-later
"""What bin/demo and the cluster tests read of a partition's promises."""

import json

from slapos.grid.promise.generic import AnomalyResult, PromiseQueueResult

from node import promises


def say(partition, title, failed, message):
    """As slapgrid keeps it."""
    folder = partition / ".slapgrid/promise/result"
    folder.mkdir(parents=True, exist_ok=True)
    path = partition / "etc/plugin" / f"{title}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    said = PromiseQueueResult(path=str(path), name=path.name, title=title, item=AnomalyResult(failed, message))
    (folder / f"{title}.status.json").write_text(json.dumps(said.serialize()))
    return path


def test_none_yet(tmp_path):
    assert promises.results(tmp_path) == {}


def test_what_each_said(tmp_path):
    say(tmp_path, "one", False, "well")
    say(tmp_path, "two", True, "badly")
    assert promises.results(tmp_path) == {"one": (False, "well"), "two": (True, "badly")}


def test_a_promise_that_is_gone_says_nothing(tmp_path):
    say(tmp_path, "one", False, "well")
    say(tmp_path, "gone", True, "badly").unlink()
    assert promises.results(tmp_path) == {"one": (False, "well")}
