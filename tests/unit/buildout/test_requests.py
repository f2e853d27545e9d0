# SPDX-License-Identifier: GPL-2.0-or-later
"""How another partition is requested, and what is said when the Master refuses: nothing of the parameters."""

import json
import logging
from types import SimpleNamespace

import pytest
from requests import HTTPError
from zc.buildout import UserError

from slapos import slap
from slapos.recipe.erp5.buildout import requests

CONNECTION = dict.fromkeys(requests.CONNECTION, "x")


class Master:
    """In place of the Master: `refusal` is raised by a request, `published` is what the instance has, None nothing."""

    def __init__(self):
        self.refusal, self.published, self.asked = None, None, []

    def initializeConnection(self, *_):  # noqa: N802 (slapos.core's)
        pass

    def registerComputerPartition(self, *_):  # noqa: N802
        return SimpleNamespace(request=self.request)

    def request(self, *words, **options):
        if self.refusal:
            raise self.refusal
        self.asked.append((words, options))
        return SimpleNamespace(getConnectionParameter=self.parameter)

    def parameter(self, name):
        if self.published is None:
            raise slap.NotFoundError(name)
        return json.dumps(self.published)


@pytest.fixture
def master(monkeypatch):
    made = Master()
    monkeypatch.setattr(slap, "slap", lambda: made)
    return made


def ask(state="started", sla=None):
    asking = requests.asker({"slap-connection": {"requested": state}}, CONNECTION)
    return asking("shop-mariadb", "mariadb", {"password": "SECRET"}, sla or {})


def test_a_request_tells_what_the_instance_has_published(master):
    assert ask() == {}
    master.published = {"url": "x"}
    assert ask(sla={"computer_guid": "COMP-1", "other": ""}) == {"url": "x"}
    words, options = master.asked[-1]
    assert words == ("x", "mariadb", "shop-mariadb")
    assert options["partition_parameter_kw"] == {"_": '{"password": "SECRET"}'}
    assert options["filter_kw"] == {"computer_guid": "COMP-1"}


@pytest.mark.parametrize("state, expected", [("started", "started"), ("stopped", "stopped"), ("destroyed", "started")])
def test_children_are_in_the_state_that_is_asked_of_the_instance(master, state, expected):
    ask(state)
    assert master.asked[-1][1]["state"] == expected


@pytest.mark.parametrize("kind", [slap.ResourceNotReady, slap.NotFoundError])
def test_an_instance_without_a_partition_is_another_thing_than_one_that_has_published_nothing(master, caplog, kind):
    caplog.set_level(logging.DEBUG)
    master.refusal = kind("http://127.0.0.1/requestComputerPartition")
    with pytest.raises(requests.NoPartition) as caught:
        ask()
    assert str(caught.value) == (
        "shop-mariadb: no partition yet, expected the Master to give one: see that a computer which fits (sla) has a"
        " free partition"
    )
    assert str(caught.value) in caplog.text and "SECRET" not in caplog.text


@pytest.mark.parametrize("kind", [slap.ServerError, slap.ConnectionError, HTTPError])
def test_a_refusal_is_told_and_logged_without_parameters(master, caplog, kind):
    caplog.set_level(logging.DEBUG)
    master.refusal = kind("no free partition")
    with pytest.raises(UserError) as caught:
        ask()
    assert str(caught.value) == "shop-mariadb cannot be requested: no free partition"
    assert "cannot be requested: no free partition" in caplog.text and "SECRET" not in caplog.text
