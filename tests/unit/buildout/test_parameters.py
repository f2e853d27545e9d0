# SPDX-License-Identifier: GPL-2.0-or-later
"""Refused parameters: one line for each, with what was seen, what is expected and the remedy, and never a secret."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import slapos.slap
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import parameters

SOFTWARE = Path(__file__).parents[3] / "software" / "erp5"
SECRET = "S3cret!"
KNOWN = json.loads((SOFTWARE / "instance-mariadb-input-schema.json").read_text())["properties"]
DATABASE = {"name": "erp5", "user": "erp5"}
PORT = "The port on which MariaDB listens. When absent, a free one is chosen once, and kept."
USER = "Gets all privileges on the database. Several databases may name the same user."
PASSWORD = "When absent, a random one is made, kept and published."


@pytest.fixture
def requested(tmp_path, monkeypatch):
    """A function that initialises the recipe for parameters that a Master tells; returns options and its reports."""

    def initialise(values: Any) -> tuple[dict, list[str]]:
        reports: list[str] = []
        told = {"_": json.dumps(values), "slap_software_type": "mariadb", "ip_list": [["", "127.0.0.1"]]}
        partition = SimpleNamespace(
            getInstanceParameterDict=lambda: told,
            getState=lambda: "started",
            getInstanceGuid=lambda: "guid",
            error=lambda text, logger: reports.append(text),
        )
        connection = SimpleNamespace(
            initializeConnection=lambda *_: None, registerComputerPartition=lambda *_: partition
        )
        monkeypatch.setattr(slapos.slap, "slap", lambda: connection)
        options = {name: "" for name in ("url", "key", "cert", "computer", "partition")} | {
            "jsonschema": str(SOFTWARE / "software.cfg.json"),
            "validate-parameters": "main",
            "set-default": "main",
        }
        try:
            parameters.Recipe({"buildout": {"directory": str(tmp_path)}}, "slap-configuration", options)
        except UserError as error:
            assert reports == [str(error)]
        return options, reports

    return initialise


@pytest.fixture
def refusal(requested):
    """A function that gives the lines of a refusal, as the Master gets them."""

    def refused(values: Any) -> list[str]:
        _, (report,) = requested(values)
        first, *lines = report.split("\n")
        assert first == "Invalid parameters:"
        assert all(line.startswith("  ") for line in lines)
        return [line[2:] for line in lines]

    return refused


def test_right_parameters_are_completed(requested):
    options, reports = requested({"tcpv4-port": 20000})
    assert reports == []
    assert options["configuration"]["tcpv4-port"] == 20000
    assert options["configuration"]["backup"]["logical"]["periodicity"] == "daily"
    assert options["slap-software-type"] == "mariadb"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"tcpv4-port": "20000"}, f'tcpv4-port: "20000", expected an integer or null ({PORT})'),
        ({"tcpv4-port": 80}, f"tcpv4-port: 80, expected at least 1024 ({PORT})"),
        ({"tcpv4-port": 99999}, f"tcpv4-port: 99999, expected at most 65535 ({PORT})"),
        ({"tcpv4-port": True}, f"tcpv4-port: true, expected an integer or null ({PORT})"),
        ({"tcpv4-port": [SECRET]}, f"tcpv4-port: a list, expected an integer or null ({PORT})"),
        ({"tcpv4-port": {"x": SECRET}}, f"tcpv4-port: an object, expected an integer or null ({PORT})"),
        ({"tcpv4-port": "x" * 61}, f"tcpv4-port: a string of 61 characters, expected an integer or null ({PORT})"),
        ({"tcpv4-prot": 1}, "tcpv4-prot: no such parameter, expected tcpv4-port, perhaps"),
        ({"two\nlines": 1}, f"two\\nlines: no such parameter, expected one of {', '.join(sorted(KNOWN))}"),
        (
            {"backup": {"logical": {"period": "daily"}}},
            "backup.logical.period: no such parameter, expected periodicity, perhaps",
        ),
        (
            {"database-list": [DATABASE | {"x" * 70: SECRET}]},
            f"database-list[0].{'x' * 60}...: no such parameter, expected one of name, password, user, "
            "with-process-privilege",
        ),
        ({"database-list": [DATABASE, {"name": "a"}]}, f"database-list[1].user: missing, expected a string ({USER})"),
        (
            {"database-list": [DATABASE | {"password": 12345678}]},
            f"database-list[0].password: a number, expected a string ({PASSWORD})",
        ),
        (
            {"database-list": [DATABASE | {"password": ""}]},
            f"database-list[0].password: a string, expected at least 1 character(s) ({PASSWORD})",
        ),
        (
            {"database-list": [DATABASE | {"password": False}]},
            f"database-list[0].password: a boolean, expected a string ({PASSWORD})",
        ),
        ({"database-list": [DATABASE | {"name": ""}]}, 'database-list[0].name: "", expected at least 1 character(s)'),
        ({"database-list": [f"mysql://erp5:{SECRET}@host/"]}, "database-list[0]: a string, expected an object"),
        (
            {"caucased": {"external-caucased-url": f"https://{SECRET}@host"}},
            "caucased.external-caucased-url: a string, expected a string that matches ^(http://[^/]+/?)?$ "
            f"({KNOWN['caucased']['properties']['external-caucased-url']['description']})",
        ),
        (
            {"collation-server": "Utf8"},
            'collation-server: "Utf8", expected a string that matches ^[a-z0-9_]+$ '
            "(Of the server and of the databases that are created; it must belong to the character set.)",
        ),
        ([SECRET], "all parameters: a list, expected an object"),
    ],
)
def test_each_refusal_is_one_line(refusal, values, line):
    (found,) = refusal(values)
    assert found == line
    assert SECRET not in found and "12345678" not in found


@pytest.mark.parametrize("whole", [DATABASE | {"password": SECRET}, json.dumps([{"password": SECRET}])])
def test_a_whole_entry_in_place_of_the_list_is_not_quoted(refusal, whole):
    (line,) = refusal({"database-list": whole})
    kind = "a string" if isinstance(whole, str) else "an object"
    assert line.startswith(f"database-list: {kind}, expected a list (Databases and their users, ")


def test_a_choice_is_listed(refusal):
    (line,) = refusal({"character-set-server": "utf8"})
    assert line.startswith('character-set-server: "utf8", expected one of utf8mb4, utf8mb3, latin1, ')


def test_every_error_is_listed(refusal):
    lines = refusal({"tcpv4-port": 80, "mroonga": 1, "unknown-1": 1, "unknown-2": 1, "database-list": [{}]})
    assert sorted(line.split(":")[0] for line in lines) == [
        "database-list[0].name",
        "database-list[0].user",
        "mroonga",
        "tcpv4-port",
        "unknown-1",
        "unknown-2",
    ]
