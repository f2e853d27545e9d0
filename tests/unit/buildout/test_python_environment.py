# SPDX-License-Identifier: GPL-2.0-or-later
"""The recipe of environments: what it reads, the order of installation, what it refuses, and when it builds anew."""

from pathlib import Path

import pytest
import zc.buildout

from slapos.recipe.erp5.buildout import python_environment

ROOT = Path(__file__).parents[3]
PINS = "# why\nB.b==1 \\\n    --hash=sha256:0b\na==2 --hash=sha256:0a --hash=sha256:1a\n\nc==3 --hash=sha256:0c\n"


def refusal_of(call, *arguments):
    with pytest.raises(zc.buildout.UserError) as refusal:
        call(*arguments)
    return str(refusal.value)


@pytest.fixture
def options(tmp_path):
    (tmp_path / "pins.txt").write_text(PINS)
    (tmp_path / "virtualenv.txt").write_text("v==1 --hash=sha256:00\n")
    return {
        "pins": str(tmp_path / "pins.txt"),
        "virtualenv-pins": str(tmp_path / "virtualenv.txt"),
        "python": "/python",
    }


def recipe(tmp_path, options):
    return python_environment.Recipe({"buildout": {"parts-directory": str(tmp_path)}}, "part", options)


def build(content):
    def make(new):
        new.mkdir()
        (new / content).touch()
        return ["a==2"]

    return make


def test_pins_are_read():
    assert python_environment.parse_pins(PINS) == {
        "b-b": "B.b==1 --hash=sha256:0b",
        "a": "a==2 --hash=sha256:0a --hash=sha256:1a",
        "c": "c==3 --hash=sha256:0c",
    }


@pytest.mark.parametrize("line", ["a", "a>=1 --hash=sha256:00", "a==1", "--index-url x"])
def test_what_is_not_pinned_is_refused(line):
    assert refusal_of(python_environment.parse_pins, line) == (
        f"'{line}' is not pinned: write `name==version --hash=sha256:...`."
    )


@pytest.mark.parametrize("name", ["neo-py2.txt", "virtualenv.txt", "zope-py2.txt"])
def test_our_own_pins_are_complete(name):
    assert python_environment.parse_pins((ROOT / "versions" / name).read_text())


def test_what_others_need_comes_first():
    assert python_environment.steps({"a": "a1", "b-b": "b1", "c": "c1"}, "\nC\nb.b\n") == [["c1"], ["b1"], ["a1"]]
    assert python_environment.steps({"a": "a1"}, "a") == [["a1"]]


def test_what_comes_first_has_to_be_pinned():
    assert refusal_of(python_environment.steps, {"a": "a1"}, "a\na d") == (
        "`build-first` names a, d, which `pins` does not have, or has been named before."
    )


def test_an_interpreter_that_will_do():
    python_environment.check_python("/p", "2.7.18", "2.7", [], "part")
    python_environment.check_python("/p", "3.11.2", "3", [], "part")


@pytest.mark.parametrize(
    "version, missing, observed",
    [
        ("3.11.2", [], "/p is Python 3.11.2"),
        ("", [], "/p is Python of an unknown version"),
        ("2.7.18", ["ssl", "sqlite3"], "/p lacks the modules ssl, sqlite3"),
    ],
)
def test_an_interpreter_that_will_not_do(version, missing, observed):
    assert refusal_of(python_environment.check_python, "/p", version, "2.7", missing, "part") == (
        f"{observed}, but section [part] needs Python 2.7 with ctypes, sqlite3, ssl: "
        "name another one in `executable` of the section that the option `python` refers to."
    )


def test_the_words_of_a_failure():
    output = "DEPRECATION: old\nfine\n  x.c:1:2: error: no x\nmore\nERROR: failed\n"
    assert python_environment.last_words(output) == "x.c:1:2: error: no x / ERROR: failed"
    assert python_environment.last_words("one\ntwo\n") == "one / two"
    assert python_environment.last_words("") == "it said nothing"


def test_library_paths_are_relative_and_leave_the_host_alone():
    folders = {"a.so": Path("/r/parts/x/lib"), "b.so": Path("/r/parts/e/lib")}
    assert python_environment.library_path(Path("/r/parts/e/lib/f.so"), ["a.so", "libc.so.6", "b.so"], folders) == (
        "$ORIGIN/../../x/lib:$ORIGIN"
    )
    assert python_environment.library_path(Path("/f.so"), ["libc.so.6"], folders) == ""


def test_nothing_to_install(tmp_path):
    assert refusal_of(recipe, tmp_path, {}) == (
        "Section [part] names nothing to install: set its option `pins` or `source`."
    )


def test_published_options(tmp_path, options):
    recipe(tmp_path, options)
    assert options["location"] == f"{tmp_path}/part"
    assert options["bin"] == f"{tmp_path}/part/bin"
    assert options["python-executable"] == f"{tmp_path}/part/bin/python"


def test_it_is_built_anew_when_the_pins_have_changed_only(tmp_path, options, monkeypatch):
    part = recipe(tmp_path, options)
    monkeypatch.setattr(part, "_build", build("one"))
    assert part.install() == ()
    monkeypatch.setattr(part, "_build", build("two"))
    part.update()
    assert (tmp_path / "part/one").exists()
    (tmp_path / "pins.txt").write_text(PINS.replace("a==2", "a==3"))
    part.update()
    assert (tmp_path / "part/two").exists() and not (tmp_path / "part/one").exists()


def test_a_later_file_of_pins_counts_where_both_pin_the_same(tmp_path, options, monkeypatch):
    more = tmp_path / "more.txt"
    more.write_text("B-b==7 --hash=sha256:0f\nd==4 --hash=sha256:0d\n")
    options = {**options, "pins": f"\n{options['pins']}\n  {more}\n", "build-first": "", "compiler-candidates": ""}
    options["compiler-newest"] = "12"
    part = recipe(tmp_path, options)
    for name in ("_make_environment", "_run", "_set_library_paths", "_compile_library"):
        monkeypatch.setattr(part, name, lambda *_: "")
    monkeypatch.setattr(part, "_check_interpreter", lambda: "/usr")
    monkeypatch.setattr(python_environment.compiler, "find", lambda *_: "gcc")
    monkeypatch.setattr(python_environment, "_readdress", lambda *_: None)
    seen = []
    monkeypatch.setattr(part, "_install_distributions", lambda install, batches, *_: seen.extend(batches))
    part._build(tmp_path / "new")
    assert [[entry.split()[0] for entry in batch] for batch in seen] == [["B-b==7", "a==2", "c==3", "d==4"]]


def test_a_failure_leaves_what_was_there(tmp_path, options, monkeypatch):
    (tmp_path / "part").mkdir()
    part = recipe(tmp_path, options)

    def fail(new):
        new.mkdir()
        raise zc.buildout.UserError("no")

    monkeypatch.setattr(part, "_build", fail)
    assert refusal_of(part.install) == "no"
    assert (tmp_path / "part").exists() and not (tmp_path / "part.new").exists()


def test_a_command_that_fails_is_told_in_one_sentence(tmp_path, options):
    part = recipe(tmp_path, options)
    command = ["/bin/sh", "-c", "echo ERROR: bad luck; exit 3"]
    assert refusal_of(part._run, command, "do it", {}) == (
        f"Section [part] cannot do it: ERROR: bad luck. All that was said is in {tmp_path}/part.log."
    )
    assert part.log.read_text() == "== do it\nERROR: bad luck\n"


def test_scripts_name_the_place_where_they_will_be(tmp_path):
    (tmp_path / "script").write_text("#!/r/part.new/bin/python\n")
    (tmp_path / "program").write_bytes(b"\x7fELF /r/part.new ")
    python_environment._readdress(tmp_path, "/r/part.new", "/r/part")
    assert (tmp_path / "script").read_text() == "#!/r/part/bin/python\n"
    assert (tmp_path / "program").read_bytes() == b"\x7fELF /r/part.new "


def test_a_file_of_pins_that_is_not_there(tmp_path, options):
    options["pins"] = "/no/pins.txt"
    assert refusal_of(recipe(tmp_path, options).install) == (
        "/no/pins.txt cannot be read (No such file or directory): it should list what to install."
    )
