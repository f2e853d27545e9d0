# SPDX-License-Identifier: GPL-2.0-or-later
"""The buildout extension without a run: typed values, places of profiles, what depends on what, and the fork."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from zc.buildout import UserError, configparser
from zc.buildout import buildout as stock

from slapos.recipe.erp5.buildout import extension, serialise

PATCHED = {
    stock: ("Options", "_save_option", "_install_and_load", "_dists_sig"),
    stock.Buildout: ("Options", "__getitem__", "_compute_part_signatures", "_update_installed"),
}

AWKWARD = [
    "",
    " spaces around ",
    "two\nlines\n\n  indented\n",
    "\r\n\t\x0b",
    "quotes ' and \" and ''' and \"\"\"",
    "a\\path \\x24 \\",
    "${buildout:directory} $${a:b} $ ${nothing}",
    "100% %(name)s %(__buildout_space__)s",
    "# not ; a comment",
    "[section]\n= <= {{ jinja }} {% x %} `command`",
    "pässwörd \u2603 \U0001f40d \udc80",
    "!py!{'a': 1}",
    "!py!",
    "None",
    "1",
]
VALUES = [
    *AWKWARD,
    None,
    True,
    False,
    0,
    -7,
    10**30,
    1.5,
    1e-300,
    b"\x00\xff$",
    [],
    (),
    (1,),
    {},
    set(),
    {1, 2, "x"},
    {"nested": [{"a": (1, None)}, {"b": {"c", "d"}}], 5: True, None: 1.0},
    AWKWARD,
    {text: text for text in AWKWARD},
]


@pytest.fixture
def unpatched(monkeypatch):
    """Stock zc.buildout as it is before any extension, and again after the test."""
    monkeypatch.setattr(stock, "dumps", None, raising=False)
    monkeypatch.setattr(stock, "loads", None, raising=False)
    del stock.dumps, stock.loads
    for owner, names in PATCHED.items():
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    yield
    stock.dumps = stock.loads = None


@pytest.fixture
def open_buildout(unpatched, tmp_path, monkeypatch):
    """A function that opens a profile given as text, with the extension."""
    monkeypatch.chdir(tmp_path)
    # Each buildout would add a handler to the root logger for ever.
    monkeypatch.setattr(stock.Buildout, "_setup_logging", lambda self: None)

    def opened(profile: str) -> Any:
        path = tmp_path / "buildout.cfg"
        path.write_text("[buildout]\noffline = true\nparts =\n" + profile, encoding="utf-8")
        buildout = stock.Buildout(str(path), [], use_user_defaults=False)
        extension.extension(buildout)
        return buildout

    return opened


def saved_and_read(options: dict[str, Any]) -> dict[str, Any]:
    """What `.installed.cfg` gives back."""
    file = io.StringIO()
    for option, value in options.items():
        extension.save_option(option, value, file)
    text = io.StringIO("[part]\n" + file.getvalue())
    read = configparser.parse(text, "installed")["part"]
    return {option: serialise.decode(value) for option, value in read.items()}


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_survives_its_text(value):
    text = serialise.dumps(value)
    read = serialise.loads(text)
    assert read == value
    assert type(read) is type(value)
    assert text.isascii() and text.isprintable()
    assert not set("$%#;`") & set(text)


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_survives_the_file_of_installed_options(value):
    assert saved_and_read({"before": "x", "option": value, "after": "y"}) == {
        "before": "x",
        "option": value,
        "after": "y",
    }


def test_plain_text_stays_readable_in_the_file_of_installed_options():
    assert serialise.encode("/a/path with spaces\n/another/one") == "/a/path with spaces\n/another/one"


def test_one_value_has_one_text():
    assert serialise.dumps({"b": 1, "a": {"y", "x"}}) == "!py!{'a': {'x', 'y'}, 'b': 1}"
    assert serialise.dumps({"a": {"x", "y"}, "b": 1}) == "!py!{'a': {'x', 'y'}, 'b': 1}"


def test_numbers_and_booleans_keep_apart():
    assert serialise.dumps([True, 1, 1.0]) == "!py![True, 1, 1.0]"


@pytest.mark.parametrize("text", ["!py!", "!py!open('/etc/passwd')", "!py!{'a': __import__('os')}", "!py![", "plain"])
def test_reading_executes_nothing(text):
    with pytest.raises(ValueError, match="^not a serialised value: "):
        serialise.loads(text)


@pytest.mark.parametrize("value", [object(), float("inf"), float("nan"), [object()]])
def test_what_has_no_text_is_refused(value):
    with pytest.raises(TypeError, match="^options are text, a finite number, true, false, none or a collection"):
        serialise.dumps(value)


def test_a_recipe_gets_back_what_it_set(open_buildout):
    section = open_buildout("[section]\n")["section"]
    for number, value in enumerate(VALUES):
        section[f"option-{number}"] = value
    assert [section[f"option-{number}"] for number in range(len(VALUES))] == VALUES
    assert list(section.copy().values()) == VALUES
    assert dict(section.items()) == section.copy()


def test_a_value_set_is_a_copy(open_buildout):
    section = open_buildout("[section]\n")["section"]
    given = {"a": [1]}
    section["option"] = given
    given["a"].append(2)
    section["option"]["a"].append(3)
    assert section["option"] == {"a": [1]}


def test_a_value_written_in_a_profile_is_read_back_and_never_substituted(open_buildout):
    lines = [f"option-{number} = {serialise.dumps(value)}" for number, value in enumerate(VALUES)]
    section = open_buildout("[section]\n" + "\n".join(lines))["section"]
    assert [section[f"option-{number}"] for number in range(len(VALUES))] == VALUES


def test_a_reference_to_a_whole_value_keeps_its_type_over_several_steps(open_buildout):
    value = {"password": "${buildout:directory}", "ports": {1, 2}}
    buildout = open_buildout(f"[one]\na = {serialise.dumps(value)}\n[two]\nb = ${{one:a}}\nc = ${{:b}}\n")
    assert buildout["two"]["c"] == value


def test_a_section_can_refer_to_its_own_name(open_buildout):
    assert open_buildout("[one]\nname = ${:_buildout_section_name_}\n")["one"]["name"] == "one"


def test_none_is_a_value_not_a_missing_option(open_buildout):
    buildout = open_buildout("[one]\na = !py!None\n[two]\nb = ${one:a}\n")
    assert buildout["two"]["b"] is None
    assert buildout["two"].get("b", "default") is None
    assert buildout["two"].get("c", "default") == "default"


def test_text_that_looks_like_a_reference_is_final_inside_other_text(open_buildout):
    text = serialise.dumps("${buildout:directory}$$")
    buildout = open_buildout(f"[one]\na = {text}\n[two]\nb = <${{one:a}}>\nc = <${{:b}}>\n")
    assert buildout["two"]["c"] == "<<${buildout:directory}$$>>"


def test_typed_value_inside_other_text_is_its_serialised_text(open_buildout):
    buildout = open_buildout("[one]\na = !py!{'x': 1}\n[two]\nb = value: ${one:a}\n")
    assert buildout["two"]["b"] == "value: !py!{'x': 1}"


def test_plain_profiles_mean_what_they_did(open_buildout):
    buildout = open_buildout("[one]\na = x\n[two]\nb = ${one:a} $${one:a}\nc =\n  1\n  2\n")
    assert buildout["two"].copy() == {"b": "x $${one:a}", "c": "1\n2"}


def test_missing_option_is_an_error_as_before(open_buildout):
    buildout = open_buildout("[one]\na = ${:b}\n[two]\n")
    with pytest.raises(stock.MissingOption):
        buildout["one"]
    with pytest.raises(KeyError, match="Missing option: two:b"):
        buildout["two"]["b"]


def test_circle_of_references_is_named(open_buildout):
    with pytest.raises(UserError, match="^Circular reference in substitutions: two:b -> one:a -> two:b.$"):
        open_buildout("[one]\na = ${two:b}\n[two]\nb = ${one:a}\n")["one"]


def test_unreadable_value_names_its_option(open_buildout):
    with pytest.raises(UserError, match="^one:a is not a serialised value: "):
        open_buildout("[one]\na = !py!open('x')\n")["one"]["a"]


def annotated(*steps: tuple[str, str, str]) -> Any:
    """A value as buildout remembers it: (operation, text, profile) each."""
    key = stock.SectionKey(steps[0][1], steps[0][2])
    for operation, text, profile in steps[1:]:
        if operation == "ADD":
            key.addToValue(text, profile)
        elif operation == "REMOVE":
            key.removeFromValue(text, profile)
        else:
            key.overrideValue(stock.SectionKey(text, profile))
    return key


def placed(*steps: tuple[str, str, str]) -> dict[str, str]:
    key = annotated(*steps)
    raw = {"section": {"option": key.value}}
    extension.place_profiles(raw, {"section": {"option": key}})
    return raw["section"]


BASE = "${:_profile_base_location_}"


@pytest.mark.parametrize(
    ("profile", "folder"),
    [
        ("/a/b/software.cfg", "/a/b"),
        ("http://host:1/a/b/software.cfg", "http://host:1/a/b"),
        ("https://host/a/../b/x.cfg", "https://host/a/../b"),
    ],
)
def test_profile_base_location_is_the_folder_of_the_profile(profile, folder):
    assert placed(("SET", f"{BASE}/x", profile)) == {"option": f"{folder}/x", "_profile_base_location_": folder}


def test_profile_base_location_of_each_line_is_its_own():
    assert (
        placed(
            ("SET", f"{BASE}/1\n{BASE}/2", "/a/x.cfg"),
            ("ADD", f"{BASE}/3", "/b/y.cfg"),
            ("REMOVE", f"{BASE}/1", "/c/z.cfg"),
        )["option"]
        == "/a/2\n/b/3"
    )


def test_profile_base_location_follows_the_last_assignment():
    assert placed(("SET", f"{BASE}/1", "/a/x.cfg"), ("OVERRIDE", f"{BASE}/2", "/b/y.cfg"))["option"] == "/b/2"


def test_no_profile_no_location():
    assert placed(("SET", f"{BASE}/1", "COMMAND_LINE_VALUE"))["option"] == f"{BASE}/1"


def test_what_a_part_depends_on_is_found_through_circles():
    edges = {"a": {"b"}, "b": {"c", "a"}, "d": {"a"}}
    assert extension.reachable("a", edges) == {"a", "b", "c"}
    assert extension.reachable("d", edges) == {"a", "b", "c", "d"}
    assert extension.reachable("c", edges) == {"c"}


def test_sections_asked_for_while_a_section_is_initialised_are_noted(open_buildout):
    buildout = open_buildout("[one]\na = ${two:b}\n[two]\nb = ${three:c}\n[three]\nc = 1\n[four]\n")
    buildout["four"]
    buildout["one"]
    _, asked = buildout._erp5_tracking
    assert asked == {"one": {"two"}, "two": {"three"}}


def test_what_loading_a_recipe_asks_for_is_not_noted(open_buildout, monkeypatch):
    monkeypatch.setattr(extension, "_install_and_load", lambda spec, group, entry, buildout: buildout["versions"])
    buildout = open_buildout("[one]\n")
    stack, asked = extension._tracking(buildout)
    stack.append("one")
    extension.install_and_load("spec", "group", "entry", buildout)
    assert (stack, asked) == (["one"], {})


@pytest.mark.parametrize(
    ("section", "option", "counts"),
    [
        ("slap-configuration", "configuration", True),
        ("slap-configuration", "timestamp", False),
        ("other", "timestamp", True),
        ("buildout", "eggs-directory", True),
        ("buildout", "parts", False),
        ("buildout", "offline", False),
    ],
)
def test_only_lasting_options_sign_a_part(section, option, counts):
    assert list(extension._lasting(section, [option])) == ([option] if counts else [])


def test_templates_outside_of_the_buildout_sign_a_part(tmp_path):
    inside, outside, library = (tmp_path / name for name in ("b/inside", "outside", "library"))
    inside.parent.mkdir()
    for path in (inside, outside, library):
        path.touch()
    values = {"url": str(outside), "import-list": f"rawfile x {library}\nrawfile y {inside}", "other": str(inside)}
    assert extension.outside_files(values, inside.parent) == [outside, library]
    assert extension.outside_files({"url": "http://host/x", "template": f"{tmp_path}/missing"}, inside.parent) == []


class Distribution(SimpleNamespace):
    """As pkg_resources describes what pip installed."""

    def has_metadata(self, name):
        return name == "RECORD"

    def get_metadata(self, name):
        return self.record

    def get_entry_map(self, group):
        return {"default": SimpleNamespace(module_name=self.module)} if self.module else {}


def signature(record: str, version: str = "1.0", module: str | None = "a.recipes.one") -> list[str]:
    distribution = Distribution(
        project_name="x", version=version, location="/site-packages", record=record, module=module
    )
    return extension.dists_signature([distribution])


def test_signature_of_a_distribution_is_its_version_and_its_recipes_code():
    assert signature("a/recipes/one.py,sha256=1,1\na/run.py,sha256=1,1") == ["x-1.0-10998895a87e"]
    assert signature("a/recipes/one.py,sha256=1,1\na/run.py,sha256=2,1") == ["x-1.0-10998895a87e"]
    assert signature("a/recipes/one.py,sha256=2,1\na/run.py,sha256=1,1") != ["x-1.0-10998895a87e"]
    assert signature("a/recipes/one.py,sha256=1,1", version="1.1") == ["x-1.1-10998895a87e"]
    assert signature("a/recipes/one.py,sha256=1,1", module=None) == ["x-1.0"]


def state() -> list[Any]:
    return [getattr(owner, name) for owner, names in PATCHED.items() for name in names]


def test_it_does_nothing_on_the_fork(unpatched):
    stock.dumps = fake = object()
    before = state()
    extension.extension(object())
    assert state() == before
    assert stock.dumps is fake and not hasattr(stock, "loads")


def test_it_can_be_loaded_again(open_buildout):
    open_buildout("[a]\n")
    before = state()
    again = open_buildout("[one]\na = ${two:b}\n[two]\nb = !py!1\n")
    extension.extension(again)
    assert state() == before
    assert again["one"]["a"] == 1
