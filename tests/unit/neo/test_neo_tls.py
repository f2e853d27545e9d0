# SPDX-License-Identifier: GPL-2.0-or-later
"""py2/neo_tls.py without NEO: when files are read anew, and what happens to those that cannot be."""

import importlib.util
from pathlib import Path

import pytest

import slapos.recipe.erp5

SCRIPT = Path(slapos.recipe.erp5.__file__).parent / "py2/neo_tls.py"


@pytest.fixture(scope="module")
def neo_tls():
    spec = importlib.util.spec_from_file_location("neo_tls", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Context:
    def __init__(self, paths):
        self.text = " ".join(path.read_text() for path in paths)
        if "bad" in self.text:
            raise ValueError("no PEM")

    def wrap_socket(self, sock, **options):
        return self.text, sock, options


def write(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_new_files_count_from_the_next_connection_on(neo_tls, tmp_path):
    ca, pair, said = tmp_path / "ca", tmp_path / "pair", []
    ca.write_text("ca1")
    pair.write_text("pair1")
    fresh = neo_tls.Fresh((ca, pair), Context, said.append)
    assert fresh.wrap_socket("S", server_side=True) == ("ca1 pair1", "S", {"server_side": True})
    write(pair, "pair2")
    assert fresh.wrap_socket("S")[0] == "ca1 pair2"
    assert fresh.wrap_socket("S")[0] == "ca1 pair2"
    assert said == ["the certificates were read anew"]


def test_what_cannot_be_read_changes_nothing_and_is_said_once(neo_tls, tmp_path):
    pair, said = tmp_path / "pair", []
    pair.write_text("pair1")
    fresh = neo_tls.Fresh((pair,), Context, said.append)
    write(pair, "bad")
    assert [fresh.wrap_socket("S")[0] for _ in range(3)] == ["pair1"] * 3
    assert said == ["the certificates cannot be read anew, those from before are used: no PEM"]
    pair.unlink()
    assert fresh.wrap_socket("S")[0] == "pair1"
    write(pair, "pair2")
    assert fresh.wrap_socket("S")[0] == "pair2"


def test_its_first_files_have_to_be_good(neo_tls, tmp_path):
    with pytest.raises(FileNotFoundError):
        neo_tls.Fresh((tmp_path / "x",), Context, print)


def test_wrong_arguments(neo_tls, capsys):
    assert neo_tls.main(["neo.scripts.neoadmin"]) == 2
    assert capsys.readouterr().err.startswith("usage: neo_tls.py MODULE -- ")
