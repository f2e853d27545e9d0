# SPDX-License-Identifier: GPL-2.0-or-later
"""Buildout extension: profiles written for the SlapOS fork of buildout run on stock zc.buildout.

Use: `[buildout] extensions = slapos.recipe.erp5`, in the profile of the release and in that of an instance. It adds

- typed option values, and `zc.buildout.buildout.dumps`, which slapos.cookbook and slapos.recipe.template look for;
- `${:_profile_base_location_}`: the folder, or URL, of the profile in which it is written (not in [buildout] itself,
  which is read before any extension);
- a part is installed again when a section that it refers to has changed, however indirectly and by whatever means.

On the fork, recognised by a `dumps` that is not ours, it does nothing.
"""

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zc.buildout import UserError
from zc.buildout import buildout as stock

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.buildout import installed, serialise

BASE = "_profile_base_location_"
BASE_REFERENCE = "${:" + BASE + "}"
SIGNATURE = "__buildout_signature__"
# Processing is what changes these, not a change of anything that a part could depend on.
VOLATILE = {("slap-configuration", "timestamp")}
# Options of slapos.recipe.template that name files whose content matters.
TEMPLATES = ("url", "template", "import-list")

_REFERENCE = re.compile(r"\$\{([-a-zA-Z0-9 ._]*):([-a-zA-Z0-9 ._]+)\}")
_FROM_PROFILE = re.compile(r"[a-zA-Z+]+://|/")
_MISSING = object()
_CALLER = object()

_save_option = stock._save_option
_install_and_load = stock._install_and_load
_dists_sig = stock._dists_sig
_get_section = stock.Buildout.__getitem__
_sign_parts = stock.Buildout._compute_part_signatures
_update_installed = stock.Buildout._update_installed


def extension(buildout: Any) -> None:
    """Entry point: teach this process's zc.buildout, and tell this buildout where its profiles lie.

    It is called again for every buildout that runs inside another one (slapos.cookbook:switch-softwaretype).
    """
    dumps = getattr(stock, "dumps", serialise.dumps)
    if dumps is not serialise.dumps:
        return
    _teach()
    for options in buildout._data.values():
        options.__class__ = TypedOptions
    place_profiles(buildout._raw, buildout._annotated)


def _teach() -> None:
    stock.dumps = serialise.dumps
    stock.loads = serialise.loads
    stock.Options = stock.Buildout.Options = TypedOptions
    stock._save_option = save_option
    stock._install_and_load = install_and_load
    stock._dists_sig = dists_signature
    stock.Buildout.__getitem__ = get_section
    stock.Buildout._compute_part_signatures = sign_parts
    stock.Buildout._update_installed = update_installed


# Typed values


class TypedOptions(stock.Options):
    """Options whose values may be anything that `serialise` knows.

    `_raw` holds what the profiles say, as text. `_cooked` (by substitution) and `_data` (final) hold values: a text in
    there is final whatever it looks like, so that `${a:b}` in a password stays what it is.
    """

    def get(self, option: str, default: Any = None, seen: Any = _CALLER) -> Any:
        """As in the base class. Substitution passes `seen`, and receives a typed value as text."""
        value = self._value(option, None if seen is _CALLER else seen)
        if value is _MISSING:
            return default
        if seen is _CALLER:
            return _own_copy(value)
        return value if isinstance(value, str) else serialise.dumps(value)

    def __getitem__(self, option: str) -> Any:
        value = self.get(option, _MISSING)
        if value is _MISSING:
            raise stock.MissingOption(f"Missing option: {self.name}:{option}")
        return value

    def __setitem__(self, option: str, value: Any) -> None:
        self._data[option] = _own_copy(value)

    def copy(self) -> dict[str, Any]:
        """Return the values as a dictionary, without counting the options as used."""
        values = {option: self._decoded(option) for option in self._raw} | self._cooked | self._data
        return {option: _own_copy(value) for option, value in values.items()}

    def _initialize(self) -> None:
        stack, _ = _tracking(self.buildout)
        stack.append(self.name)
        try:
            super()._initialize()
        finally:
            stack.pop()

    def _dosub(self, option: str, text: str) -> None:
        self._cooked[option] = self._substituted(option, text, [(self.name, option)])

    def _value(self, option: str, seen: list[tuple[str, str]] | None) -> Any:
        if option in self._data:
            return self._data[option]
        if option in self._cooked:
            value = self._cooked[option]
        elif option in self._raw:
            value = self._decoded(option)
            if isinstance(value, str) and "${" in self._raw[option]:
                value = self._substituted(option, self._raw[option], _deeper(seen, (self.name, option)))
        else:
            return _MISSING
        self._data[option] = value
        return value

    def _decoded(self, option: str) -> Any:
        try:
            return serialise.decode(self._raw[option])
        except ValueError as error:
            raise UserError(f"{self.name}:{option} is {error}") from error

    def _substituted(self, option: str, text: str, seen: list[tuple[str, str]]) -> Any:
        __doing__ = "Getting option %s:%s.", self.name, option  # noqa: F841 (buildout prints it under "While:")
        result = "$$".join(self._sub(part, seen) for part in text.split("$$"))
        reference = _REFERENCE.fullmatch(text)
        if reference:
            # A value referred to as a whole keeps its type. An option that substitution made up is not found here.
            section, name = reference.groups()
            value = self.buildout[section or self.name].get(name, _MISSING)
            return result if value is _MISSING else value
        return result


def _deeper(seen: list[tuple[str, str]] | None, key: tuple[str, str]) -> list[tuple[str, str]]:
    path = [*(seen or ()), key]
    if path.count(key) > 1:
        raise UserError(f"Circular reference in substitutions: {' -> '.join(':'.join(step) for step in path)}.")
    return path


def _own_copy(value: Any) -> Any:
    return value if isinstance(value, str) else serialise.loads(serialise.dumps(value))


def save_option(option: str, value: Any, file: Any) -> None:
    """Write an option into `.installed.cfg` so that it is read back as it is."""
    _save_option(option, serialise.encode(value), file)


def update_installed(buildout: Any, **options: Any) -> None:
    """Note what is installed, as stock buildout does, in a file that slapos.testing's strict parser reads too."""
    _update_installed(buildout, **options)
    path = Path(buildout["buildout"]["installed"])
    text = path.read_text()
    if installed.merged(text) != text:
        mode = stat.S_IMODE(path.stat().st_mode)
        process.write_atomically(path, installed.merged(text))
        path.chmod(mode)


# Where a profile lies


def place_profiles(raw: dict[str, dict[str, str]], annotated: dict[str, dict[str, Any]]) -> None:
    """Write the folder of its own profile in place of each `${:_profile_base_location_}` of the raw options."""
    for section, options in annotated.items():
        for option, key in options.items():
            if BASE_REFERENCE in key.value:
                raw[section][option] = _placed(key)
                raw[section].setdefault(BASE, _folder(key.source))


def _placed(key: Any) -> str:
    # Buildout keeps who wrote what: `+=` adds lines of one profile to those of another.
    lines: list[tuple[str, str]] = []
    for item in key.history:
        written = [(line, item.source) for line in item.value.split("\n")]
        if item.operation == "ADD":
            lines += written
        elif item.operation == "REMOVE":
            lines = [line for line in lines if line[0] not in item.value.split("\n")]
        else:
            lines = written
    if "\n".join(text for text, _ in lines) != key.value:
        lines = [(key.value, key.source)]
    return "\n".join(_with_folder(*line) for line in lines)


def _with_folder(text: str, source: str) -> str:
    return text.replace(BASE_REFERENCE, _folder(source)) if _FROM_PROFILE.match(source) else text


def _folder(source: str) -> str:
    return source.rpartition("/")[0]


# What a part depends on


def _tracking(buildout: Any) -> tuple[list[str], dict[str, set[str]]]:
    """Return the sections being initialised, innermost last, and the sections that each one has asked for."""
    return buildout.__dict__.setdefault("_erp5_tracking", ([], {}))


def get_section(buildout: Any, name: str) -> Any:
    """Give a section, and note that the section being initialised depends on it."""
    stack, asked = _tracking(buildout)
    if stack and stack[-1]:
        asked.setdefault(stack[-1], set()).add(name)
    return _get_section(buildout, name)


def install_and_load(spec: str, group: str, entry: str, buildout: Any) -> Any:
    """Load a recipe without noting what that asks for: a download reads [versions], and happens only the first time."""
    stack, _ = _tracking(buildout)
    stack.append("")
    try:
        return _install_and_load(spec, group, entry, buildout)
    finally:
        stack.pop()


def dists_signature(distributions: Iterable[Any]) -> list[str]:
    """Sign each distribution by its version and its recipes' own code.

    Stock buildout hashes the whole site-packages folder for what pip installed, so that any change there installs every
    part again.
    """
    installed: list[Any] = []
    others: list[Any] = []
    for distribution in distributions:
        (installed if _is_installed_by_pip(distribution) else others).append(distribution)
    return [*_dists_sig(others), *sorted({_signature(distribution) for distribution in installed})]


def _is_installed_by_pip(distribution: Any) -> bool:
    if distribution.location.endswith(".egg") or not distribution.has_metadata("RECORD"):
        return False
    return "__editable__" not in distribution.get_metadata("RECORD")


def _signature(distribution: Any) -> str:
    recipes = distribution.get_entry_map("zc.buildout").values()
    folders = tuple({recipe.module_name.replace(".", "/").rpartition("/")[0] for recipe in recipes})
    lines = [line for line in distribution.get_metadata("RECORD").splitlines() if line.startswith(folders)]
    code = "\n".join(sorted(line for line in lines if ".dist-info/" not in line and ",sha256=" in line))
    return "-".join([distribution.project_name, distribution.version, *([_digest(code.encode())[:12]] if code else [])])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sign_parts(buildout: Any, parts: list[str]) -> None:
    """Add to each part's signature what it depends on, so that a change there installs the part again."""
    _sign_parts(buildout, parts)
    _, asked = _tracking(buildout)
    texts = {section: _section_text(section, options) for section, options in buildout._data.items()}
    for part in parts:
        told = "\n".join(texts[section] for section in sorted(reachable(part, asked)) if section in texts)
        buildout[part][SIGNATURE] += " " + _digest(told.encode())


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Return what can be reached from a node, itself included; circles are allowed."""
    found, todo = {start}, [start]
    while todo:
        new = edges.get(todo.pop(), set()) - found
        found |= new
        todo.extend(new)
    return found


def _section_text(section: str, options: Any) -> str:
    values = options.copy()
    lasting = {option: values[option] for option in _lasting(section, values)}
    files = outside_files(values, Path(options.buildout["buildout"]["directory"]))
    return serialise.dumps([section, lasting, {str(path): _digest(path.read_bytes()) for path in files}])


def outside_files(values: dict[str, Any], directory: Path) -> list[Path]:
    """Return the templates that a section names, but for those made by this very buildout, which other sections sign.

    A template that changes in place (a release built again) would otherwise be rendered anew while a wrapper keeps the
    name that tells its old hash, and slapos.cookbook:wrapper refuses that.
    """
    words = [word for option in TEMPLATES for word in str(values.get(option, "")).split()]
    paths = [Path(word) for word in words if word.startswith("/")]
    return [path for path in paths if not path.is_relative_to(directory) and path.is_file()]


def _lasting(section: str, options: Iterable[str]) -> Iterator[str]:
    """Choose the options whose change matters: of [buildout] where things are, not how this run is done."""
    for option in options:
        if section == "buildout":
            if option == "executable" or option.endswith("directory"):
                yield option
        elif (section, option) not in VOLATILE:
            yield option
