# SPDX-License-Identifier: GPL-2.0-or-later
"""Real runs of stock buildout with the extension and the recipes of slapos.cookbook and slapos.recipe.template."""

import functools
import http.server
import json
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from slapos.recipe.erp5.buildout import serialise

AWKWARD: dict[str, Any] = {
    "password": "p ${buildout:directory} $${a:b} 100% %(x)s \\ \\x24 ' \" # ; \n\n [é\u2603] !py!",
    "like-a-value": "!py!{'a': 1}",
    "numbers": [1, 1.5, True, False, None, "1"],
    "empty": [{}, [], ""],
}

HEAD = """\
[buildout]
extensions = slapos.recipe.erp5
offline = true
"""


class Partition:
    """A folder with a profile, in which buildout is run as slapgrid does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, text: str, name: str = "buildout.cfg") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def run(self, profile: str = "buildout.cfg", *options: str, status: int = 0) -> list[str]:
        """Run buildout; return the lines that say what was done to which part."""
        buildout = Path(sys.executable).with_name("buildout")
        command = [sys.executable, str(buildout), "-U", "-c", profile, f"buildout:directory={self.folder}", *options]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, umask=0o027
        )
        assert done.returncode == status, done.stdout
        self.output = done.stdout
        return [line for line in done.stdout.splitlines() if line.startswith(("Inst", "Updat", "Uninst"))]

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.folder / name).stat().st_mode)


@pytest.fixture
def partition(tmp_path):
    return Partition(tmp_path / "slappart7")


def chain(value: str) -> str:
    """A wrapper named after a file, which is rendered from a section, which refers to another section."""
    return f"""{HEAD}
parts = wrapper other

[parameters]
value = {value}

[middle]
copy = ${{parameters:value}}

[rendered]
recipe = slapos.recipe.template:jinja2
output = ${{buildout:directory}}/etc/rendered.json
inline = {{{{ json_module.dumps(middle['copy'], sort_keys=True) }}}}
context =
  import json_module json
  section middle middle

[wrapper]
recipe = slapos.cookbook:wrapper
wrapper-path = ${{directory:service}}/server
command-line = /bin/true
hash-files = ${{rendered:output}}

[directory]
recipe = slapos.cookbook:mkdirectory
etc = ${{buildout:directory}}/etc
service = ${{:etc}}/service

[other]
recipe = slapos.cookbook:promise.plugin
eggs =
module = slapos.promise.plugin.check_file_state
output = ${{directory:etc}}/promise.py
config-name = unrelated
"""


def test_a_changed_value_two_sections_away_installs_again_what_depends_on_it_and_nothing_else(partition):
    partition.write(chain(serialise.dumps({"x": 1})))
    assert partition.run() == [
        "Installing rendered.",
        "Installing directory.",
        "Installing wrapper.",
        "Installing other.",
    ]
    [first] = (partition.folder / "etc/service").iterdir()
    assert partition.read("etc/rendered.json") == '{"x": 1}'

    assert partition.run() == ["Updating rendered.", "Updating directory.", "Updating wrapper.", "Updating other."]
    assert list((partition.folder / "etc/service").iterdir()) == [first]

    partition.write(chain(serialise.dumps({"x": 2})))
    assert partition.run() == [
        "Uninstalling wrapper.",
        "Uninstalling rendered.",
        "Installing rendered.",
        "Updating directory.",
        "Installing wrapper.",
        "Updating other.",
    ]
    [second] = (partition.folder / "etc/service").iterdir()
    assert second.name != first.name
    assert partition.read("etc/rendered.json") == '{"x": 2}'
    assert partition.run() == ["Updating rendered.", "Updating directory.", "Updating wrapper.", "Updating other."]


def test_awkward_values_reach_a_file_unchanged_and_stay_unchanged(partition):
    partition.write(chain(serialise.dumps(AWKWARD)))
    partition.run()
    assert json.loads(partition.read("etc/rendered.json")) == AWKWARD
    assert {line.split()[0] for line in partition.run()} == {"Updating"}
    assert json.loads(partition.read("etc/rendered.json")) == AWKWARD


def test_a_type_is_a_change_even_where_python_finds_the_values_equal(partition):
    partition.write(chain("!py!True"))
    partition.run()
    partition.write(chain("!py!1"))
    assert "Installing rendered." in partition.run()
    assert partition.read("etc/rendered.json") == "1"


def test_a_template_that_changes_in_place_installs_again_what_depends_on_it(partition, tmp_path):
    template, library = tmp_path / "server.cnf.in", tmp_path / "library.in"
    profile = chain("x").replace("inline = ", f"import-list = rawfile library {library}\nurl = {template}\nunused = ")

    def process(text: str, macro: str) -> list[str]:
        template.write_text("{% import 'library' as library with context %}{{ library.shown() }} " + text)
        library.write_text("{% macro shown() %}" + macro + "{% endmacro %}")
        partition.write(profile)
        done = partition.run()
        assert partition.read("etc/rendered.json") == f"{macro} {text}"
        return [line for line in done if line.endswith(("rendered.", "wrapper."))]

    installing = ["Installing rendered.", "Installing wrapper."]
    again = ["Uninstalling wrapper.", "Uninstalling rendered.", *installing]
    assert process("one", "a") == installing
    assert process("one", "a") == ["Updating rendered.", "Updating wrapper."]
    assert process("two", "a") == again
    assert process("two", "b") == again


def keeping(requested: str, port: str) -> str:
    """A profile with each recipe that keeps something."""
    return f"""{HEAD}
parts = private password id port

[private]
recipe = slapos.recipe.erp5:umask

[password]
recipe = slapos.recipe.erp5:keep
kind = password
storage-path = ${{buildout:directory}}/etc/password
requested = {requested}

[id]
recipe = slapos.recipe.erp5:keep
kind = server-id
storage-path = ${{buildout:directory}}/etc/server-id

[port]
recipe = slapos.recipe.erp5:port
range = 20000-21999
ip = 127.0.0.1
parameter = tcpv4-port
requested = {port}
storage-path = ${{buildout:directory}}/etc/port
"""


def test_kept_values_survive_every_run_and_the_installed_options_are_private(partition):
    password = AWKWARD["password"]
    partition.write(keeping(requested=serialise.dumps(password), port="!py!None"))
    parts = ["private.", "password.", "id.", "port."]
    assert partition.run() == [f"Installing {part}" for part in parts]
    kept = {name: partition.read(f"etc/{name}") for name in ("password", "server-id", "port")}
    assert kept["password"] == password
    assert int(kept["port"]) % 100 == 7
    assert partition.mode(".installed.cfg") == 0o600

    assert partition.run() == [f"Updating {part}" for part in parts]
    # Left out later: what was given stays. The part is installed again, as its option differs.
    partition.write(keeping(requested="", port=""))
    (partition.folder / ".installed.cfg").chmod(0o640)
    partition.run()
    assert {name: partition.read(f"etc/{name}") for name in kept} == kept
    assert partition.mode(".installed.cfg") == 0o600
    assert {partition.mode(f"etc/{name}") for name in kept} == {0o600}


def test_a_refused_port_ends_the_run_with_one_sentence(partition):
    partition.write(keeping(requested="", port="80"))
    partition.run(status=1)
    assert partition.output.splitlines()[-1] == (
        "Error: tcpv4-port: 80 is not a port between 1024 and 65535;"
        " give one, or leave the parameter out to have one chosen."
    )


LOCATIONS = {
    "software.cfg": f"""
        {HEAD.strip().replace(chr(10), chr(10) + " " * 8)}
        extends = component/one/buildout.cfg
        parts = show

        [list]
        lines += ${{:_profile_base_location_}}/own

        [show]
        recipe = slapos.recipe.template:jinja2
        output = ${{buildout:directory}}/locations
        inline =
          {{{{ one['here'] }}}}
          {{{{ derived['here'] }}}}
          {{{{ derived['there'] }}}}
          {{{{ lines['lines'] }}}}
          {{{{ own }}}}
        context =
          section one one
          section derived derived
          section lines list
          key own :own
        own = ${{:_profile_base_location_}}

        [derived]
        <= one
        there = ${{:_profile_base_location_}}/there
        """,
    "component/one/buildout.cfg": """
        [buildout]
        extends = ../two/buildout.cfg

        [one]
        here = ${:_profile_base_location_}/here
        """,
    "component/two/buildout.cfg": """
        [list]
        lines = ${:_profile_base_location_}/nested
        """,
}


def expected_locations(base: str) -> list[str]:
    return [
        f"{base}/component/one/here",
        f"{base}/component/one/here",
        f"{base}/there",
        f"{base}/component/one/../two/nested",
        f"{base}/own",
        base,
    ]


def write_release(folder: Path) -> Path:
    release = Partition(folder)
    for name, text in LOCATIONS.items():
        release.write(text, name)
    return folder


def test_profile_base_location_from_a_path(partition, tmp_path):
    release = write_release(tmp_path / "release")
    partition.run(str(release / "software.cfg"))
    assert partition.read("locations").splitlines() == expected_locations(str(release))


@pytest.fixture
def served(tmp_path):
    """The URL of a release served over HTTP."""
    release = write_release(tmp_path / "release")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(release.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/release"
        server.shutdown()
        thread.join()


def test_profile_base_location_from_a_url(partition, served):
    # Profiles are not downloaded offline; what is installed already needs no index.
    options = ("buildout:offline=false", "buildout:newest=false", f"buildout:index={served}")
    partition.run(f"{served}/software.cfg", *options)
    assert partition.read("locations").splitlines() == expected_locations(served)


def switching(configuration: str, timestamp: int) -> str:
    """An instance's outermost profile, as slapos.cookbook:slapconfiguration would fill it."""
    return f"""{HEAD}
parts = private switch

[private]
recipe = slapos.recipe.erp5:umask

[slap-connection]
server-url = http://127.0.0.1/

[slap-configuration]
slap-software-type = mariadb
timestamp = {timestamp}
configuration = {configuration}

[switch]
recipe = slapos.cookbook:switch-softwaretype
mariadb = instance-mariadb:output

[instance-mariadb]
recipe = slapos.recipe.template:jinja2
output = ${{buildout:directory}}/instance-mariadb.cfg
url = ${{buildout:directory}}/instance-mariadb.cfg.in
context =
  key configuration slap-configuration:configuration
"""


INNER = """
[buildout]
extensions = slapos.recipe.erp5
parts = through-profile through-section

[values]
configuration = {{ dumps(configuration) }}

[through-profile]
recipe = slapos.recipe.template:jinja2
output = ${buildout:directory}/profile.json
inline = {% raw %}{{ json_module.dumps(configuration) }}{% endraw %}
context =
  import json_module json
  key configuration values:configuration

[through-section]
recipe = slapos.recipe.template:jinja2
output = ${buildout:directory}/section.json
inline = {% raw %}{{ json_module.dumps(slap['configuration']) }}{% endraw %}
context =
  import json_module json
  section slap slap-configuration
"""


def test_values_reach_a_buildout_inside_a_buildout(partition):
    partition.write(INNER, "instance-mariadb.cfg.in")

    def process(configuration: Any, timestamp: int) -> list[str]:
        partition.write(switching(configuration=serialise.dumps(configuration), timestamp=timestamp))
        done = partition.run()
        for name in ("profile.json", "section.json"):
            assert json.loads(partition.read(name)) == configuration
        return [line for line in done if "through" in line]

    assert process(AWKWARD, 1) == ["Installing through-profile.", "Installing through-section."]
    assert process(AWKWARD, 1) == ["Updating through-profile.", "Updating through-section."]
    # The Master's time of the last change is no reason by itself.
    assert process(AWKWARD, 2) == ["Updating through-profile.", "Updating through-section."]
    assert process({**AWKWARD, "new": "${a:b}"}, 3) == [
        "Uninstalling through-section.",
        "Uninstalling through-profile.",
        "Installing through-profile.",
        "Installing through-section.",
    ]
    assert partition.mode(".installed.cfg") == partition.mode(".installed-switch.cfg") == 0o600
    assert partition.mode("instance-mariadb.cfg") == 0o600
