# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes an instance template in a temporary folder, with real recipes and without a node, and returns its files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import jsonschema
from slapos.recipe.slapconfiguration import DefaultValidator

ROOT = Path(__file__).parents[2]
SOFTWARE = ROOT / "software" / "erp5"

# What stack/erp5/buildout.cfg hands over; nothing of it has to exist to render.
RELEASE = {
    "bin": "/RELEASE/bin",
    "python": "/RELEASE/bin/python",
    "supervise": "/RELEASE/parts/supervise/supervise.py",
    "schemas": str(SOFTWARE),
    "templates": str(ROOT / "stack" / "erp5"),
    "mariadbd-service-template": str(ROOT / "component" / "mariadb" / "mariadbd-service.sh.in"),
    "haproxy": "/RELEASE/parts/haproxy",
    "logrotate": "/RELEASE/parts/logrotate",
    "mariadb": "/RELEASE/parts/mariadb",
    "neo-ask-script": "/RELEASE/parts/neo-scripts/neo_ask.py",
    "neo-master-script": "/RELEASE/parts/neo-scripts/neo_master.py",
    "neo-tls-script": "/RELEASE/parts/neo-scripts/neo_tls.py",
    "neoppod": "/RELEASE/parts/neoppod",
    "nginx": "/RELEASE/parts/nginx",
    "percona-toolkit": "/RELEASE/parts/percona-toolkit",
    "zoneinfo": "/RELEASE/parts/tzdata/usr/share/zoneinfo",
    "zstd": "/RELEASE/parts/zstd",
    "zope": "/RELEASE/parts/zope",
    # As a list of an application's profile arrives.
    "zope-products": "\n/APPLICATION/product\n/APPLICATION/more",
    "zope-serve-script": "/RELEASE/parts/zope-scripts/zope_serve.py",
}

# Choices that are otherwise random, seeded as if an earlier processing had made and kept them.
KEPT = {
    "mariadb-port": "20000",
    "backup-port": "22000",
    "caucased-port": "24000",
    "control-port": "28000",
    "zeo-port": "18000",
    "master-port": "30000",
    "admin-port": "31000",
    "storage-port": "10000",
    "server-id": "1234567",
    "cluster-name": "CLUSTER",
    "certificate-secret": "SECRET",
    "administrator-password": "ADMINISTRATOR",
    "inituser-password": "INITUSER",
    "replication-password": "REPLICATION",
    "zope-port-default-0": "14000",
    "zope-port-web-0": "14001",
    "zope-port-web-1": "14002",
    "zope-port-jobs-0": "14003",
    "storage-0-password": "STORAGE-0",
    "storage-1-password": "STORAGE-1",
    "backup-token": "TOKEN",
    "control-token": "0123456789abcdef0123456789abcdef",
}

# Runs the same two steps as switch-softwaretype, without its connection to a Master: the profile of the
# software type is rendered from instance.cfg, then processed.
PROGRAM = """
import json, sys
from zc.buildout import buildout
software_type, slap, published_by_others = json.loads(sys.argv[1])
from slapos.recipe.erp5.buildout import requests as requesting, serialise
requests = {}
def request(name, software_type, parameters, sla):
    asked = {"software-type": software_type, "parameters": parameters, "sla": sla}
    requests.setdefault(name, []).append(asked)
    return published_by_others.get(name, {})
requesting.asker = lambda buildout, connection: request
overrides = [
    ("slap-configuration", "recipe", "slapos.cookbook:switch-softwaretype.noop"),
    ("slap-configuration", "-switch-softwaretype.noop", serialise.dumps(slap)),
]
unused = "server-url", "computer-id", "partition-id", "key-file", "cert-file", "software-release-url"
overrides += [("slap-connection", key, "") for key in unused]
first = buildout.Buildout("instance.cfg", overrides + [("buildout", "installed", ".installed-1.cfg")])
profile = "root" if software_type == "default" else software_type
first["buildout"]["parts"] = "umask instance-" + profile
first.install([])
second = buildout.Buildout(f"instance-{profile}.cfg", overrides + [("buildout", "installed", ".installed-2.cfg")])
second["buildout"]["parts"] = " ".join(part for part in second["buildout"]["parts"].split() if part != "publish")
try:
    second.install([])
finally:
    if requests:
        open("requests.json", "w").write(json.dumps(requests, indent=2, sort_keys=True) + "\\n")
sections = ["publish", *second["publish"].get("-extends", "").split()]
published = {}
for section in map(second.__getitem__, sections):
    keys = section["-publish"].split() if "-publish" in section else section
    published |= {key: section[key] for key in keys if key != "recipe" and not key.startswith("-")}
open("published.json", "w").write(json.dumps(published, indent=2, sort_keys=True) + "\\n")
"""


def schema_path(software_type: str, kind: str) -> Path:
    """The schema of its parameters (`input`), or of what it publishes (`output`)."""
    return SOFTWARE / f"instance-{'' if software_type == 'default' else software_type + '-'}{kind}-schema.json"


def complete(software_type: str, parameters: dict) -> dict:
    """Validate and complete `parameters` with the recipe's own validator; AssertionError with all errors."""
    path = schema_path(software_type, "input")
    # The parameters of an ERP5 instance refer to its children's schemas.
    schema = json.loads(path.read_text()) | {"$id": path.as_uri()}
    completed = json.loads(json.dumps(parameters))
    errors = list(DefaultValidator(set_defaults=True).validate(schema, completed))
    assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)
    return completed


def check_published(software_type: str, published: dict) -> None:
    """Validate what is published against the output schema."""
    jsonschema.validate(published, json.loads(schema_path(software_type, "output").read_text()))


def render(
    folder: Path,
    software_type: str,
    parameters: dict,
    accounts: dict[str, str] | None = None,
    published_by_others: dict[str, dict] | None = None,
) -> dict[str, str]:
    """Process an instance in `folder`; return its rendered files as {path: text}, paths and machine made neutral.

    `accounts`: passwords that were generated earlier, by user; `published_by_others`: what a node that it requests has
    published, by name. Raises AssertionError with buildout's output.
    """
    completed = process(
        folder, software_type, complete(software_type, parameters), accounts or {}, published_by_others or {}
    )
    assert completed.returncode == 0, completed.stdout
    published = folder / "published.json"
    check_published(software_type, json.loads(published.read_text()))
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_rendered(path.relative_to(folder))]
    return {_without_hash(str(path.relative_to(folder))): _neutral(path, folder) for path in names}


def process(
    folder: Path,
    software_type: str,
    completed: dict,
    accounts: dict[str, str],
    published_by_others: dict[str, dict] | None = None,
) -> subprocess.CompletedProcess:
    """Run the two buildouts in `folder` and return the finished process, its output in `stdout`."""
    _prepare(folder, accounts)
    slap = {
        "configuration": completed,
        "instance-title": "an instance",
        "slap-software-type": software_type,
        "slap-computer-partition-id": "slappart0",
        "ipv4-random": "127.0.0.1",
        "ipv6-random": "::1",
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([software_type, slap, published_by_others or {}])],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _prepare(folder: Path, accounts: dict[str, str]) -> None:
    kept = folder / "srv" / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    for name, value in KEPT.items():
        (kept / name).write_text(value)
    (kept / "accounts.json").write_text(json.dumps(accounts))
    release = RELEASE | {"eggs-directory": str(folder / "eggs"), "develop-eggs-directory": str(folder / "eggs")}
    (folder / "eggs").mkdir(exist_ok=True)
    template = (ROOT / "stack" / "erp5" / "instance.cfg.in").read_text()
    (folder / "instance.cfg").write_text(jinja2.Template(template).render(release=release))


def _is_rendered(path: Path) -> bool:
    # Promise plugins are slapos.cookbook's text; their sections stand in the profile.
    skipped = (
        "plugin" in path.parts or path.parts[0] in ("eggs", "srv", "instance.cfg") or path.name.startswith(".installed")
    )
    return not skipped and path.suffix != ".pyc"


def _without_hash(name: str) -> str:
    # The hash in a wrapper's name is over files that hold the folder's own path.
    return re.sub("-[0-9a-f]{32}$", "-HASH", name)


def _neutral(path: Path, folder: Path) -> str:
    # A request is of a key that was made just now.
    text = re.sub(
        r"-----BEGIN CERTIFICATE REQUEST-----.*?-----END CERTIFICATE REQUEST-----", "A REQUEST", path.read_text()
    )
    for found, name in (
        (str(folder), "/PARTITION"),
        (str(ROOT), "/CHECKOUT"),
        (os.path.realpath(sys.prefix), "/ENVIRONMENT"),
    ):
        text = text.replace(found, name)
    return text.replace(sys.executable, "/PYTHON").replace(sys.prefix, "/ENVIRONMENT")
