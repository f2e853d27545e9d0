# SPDX-License-Identifier: GPL-2.0-or-later
"""Resolves, verifies and downloads Debian packages with a private apt state, without any privilege."""

import fnmatch
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zc.buildout

from slapos.recipe.erp5.buildout import debian_sources

logger = logging.getLogger(__name__)

# A dependency is brought along when it is a library; zlib is the one that is not named like the others.
FOLLOWED = ("lib*", "zlib1g")
NOT_FOLLOWED = ("*-perl",)
# The C and C++ run time must be the host's, as its dynamic loader is; PAM makes no sense in a relocated tree.
HOST_PROVIDED = ("libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "libpam*")

REQUIREMENT = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?:\s*>=\s*(?P<bound>[0-9][\w.+:~-]*))?")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
STATE_FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/trusted.gpg.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
)
CA_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Package:
    """One package as the signed index describes it."""

    name: str
    version: str
    architecture: str
    sha256: str
    depends: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Requirement:
    """One line of the option `packages`: a name and, maybe, the oldest version that is good enough."""

    name: str
    bound: str = ""


Lookup = Callable[[Sequence[str]], Mapping[str, Package]]


def parse_requirements(text: str) -> list[Requirement]:
    """The lines of the option `packages`."""
    requirements = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        match = REQUIREMENT.fullmatch(line)
        if not match:
            raise zc.buildout.UserError(f"{line!r} is not a Debian package: write `name` or `name >= version`.")
        requirements.append(Requirement(match["name"], match["bound"] or ""))
    return requirements


def parse_depends(text: str) -> tuple[tuple[str, ...], ...]:
    """`a (>= 1) | b, c:any` gives ((a, b), (c,))."""
    groups = (group.split("|") for group in text.replace("\n", " ").split(",") if group.strip())
    return tuple(tuple(re.split(r"[\s(:\[]", name.strip(), maxsplit=1)[0] for name in group) for group in groups)


def parse_packages(text: str) -> dict[str, Package]:
    """What `apt-cache show` prints, by name; the first version of a name is the candidate."""
    packages: dict[str, Package] = {}
    for fields in debian_sources.parse_stanzas(text):
        depends = ", ".join(fields[field] for field in ("pre-depends", "depends") if field in fields)
        package = Package(
            fields["package"],
            fields["version"],
            fields["architecture"],
            fields.get("sha256", ""),
            parse_depends(depends),
        )
        packages.setdefault(package.name, package)
    return packages


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_followed(name: str, follow: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a dependency comes along; `follow` adds to the libraries, `exclude` wins over everything."""
    if matches(name, (*HOST_PROVIDED, *exclude)):
        return False
    return matches(name, follow) or (matches(name, FOLLOWED) and not matches(name, NOT_FOLLOWED))


def closure(roots: Sequence[str], lookup: Lookup, follow: Sequence[str], exclude: Sequence[str]) -> list[Package]:
    """The roots and the libraries that they need, sorted by name; of alternatives, the first one."""
    found: dict[str, Package] = {}
    wanted = sorted(set(roots))
    while wanted:
        level = lookup(wanted)
        missing = [name for name in wanted if name not in level]
        if missing:
            raise zc.buildout.UserError(
                f"Debian package {', '.join(missing)} is unknown to the apt sources in use: "
                "check the name, or the options `suite` and `components`."
            )
        found.update((name, level[name]) for name in wanted)
        names = {group[0] for name in wanted for group in level[name].depends}
        wanted = sorted(name for name in names - found.keys() if is_followed(name, follow, exclude))
    return [found[name] for name in sorted(found)]


def check_bounds(
    requirements: Iterable[Requirement], packages: Iterable[Package], older: Callable[[str, str], bool]
) -> None:
    """Refuses the first package that is older than its requirement allows."""
    versions = {package.name: package.version for package in packages}
    for requirement in requirements:
        found = versions[requirement.name]
        if requirement.bound and older(found, requirement.bound):
            raise zc.buildout.UserError(
                f"Debian package {requirement.name} is {found} in the apt sources in use, but {requirement.bound} "
                "or newer is required: add Debian's security updates to the machine's apt sources, or set the "
                "option `mirror` to an up-to-date mirror."
            )


def explain(output: str, keyring: str) -> str:
    """One sentence for why `apt-get update` or `apt-get download` failed."""
    lines = output.strip().splitlines()
    reasons = [line[3:].strip() for kind in ("E: ", "W: ") for line in lines if line.startswith(kind)]
    reason = (reasons or lines[-1:] or ["no message"])[0].rstrip(".")
    if re.search(r"NO_PUBKEY|GPG error|not signed|sqv|signatures? (couldn't|were invalid)|Certificate verif", output):
        remedy = f"only archives signed by {keyring} are used: set the option `mirror` to one of Debian's."
    elif re.search(r"resolv|[Cc]onnect|unreachable|timed out|[Pp]roxy", output):
        remedy = "check the network and http_proxy, or set the option `mirror`."
    elif re.search(r"does not have a Release file|404", output):
        remedy = "the mirror does not have this suite or file: check the options `mirror` and `suite`."
    else:
        remedy = "see apt's message."
    return f"apt cannot use the Debian archive ({reason}): {remedy}"


def find_program(name: str) -> str:
    """The path of one of the machine's own programs."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)
    if not path:
        raise zc.buildout.UserError(f"The program {name} is missing: this recipe needs Debian's apt, dpkg and tar.")
    return path


def is_older(version: str, bound: str) -> bool:
    """Debian's own order of versions."""
    return subprocess.run([find_program("dpkg"), "--compare-versions", version, "lt", bound]).returncode == 0


def machine_architecture() -> str:
    """amd64, for instance."""
    command = [find_program("dpkg"), "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def machine_acquire_settings(dump: str) -> str:
    """How the machine's apt reaches its mirrors (proxies, certificates, clock checks); none of its hooks."""
    kept = re.compile(r"Acquire::(https?::|Check-|Retries\b)", re.IGNORECASE)
    insecure = re.compile(r"Verify-(Peer|Host)", re.IGNORECASE)
    lines = (line for line in dump.splitlines() if kept.match(line) and not insecure.search(line))
    return "".join(line + "\n" for line in lines)


def render_configuration(root: Path, architecture: str, acquire: str, ca_file: str) -> str:
    """The private apt.conf: everything below its root, nothing unsigned, no other account needed."""
    lines = [
        f'Dir "{root}/";',
        f'Dir::State::status "{root}/status";',
        f'APT::Architecture "{architecture}";',
        f'APT::Architectures {{ "{architecture}"; }};',
        'APT::Sandbox::User "root";',  # as root, apt would drop to an account that cannot read a private folder
        'APT::Get::AllowUnauthenticated "false";',
        'APT::Update::Error-Mode "any";',  # a mirror that fails is an error, not a reason to use old lists
        'Acquire::AllowInsecureRepositories "false";',
        'Acquire::AllowWeakRepositories "false";',
        'Acquire::Languages "none";',
    ]
    if "Acquire::Retries" not in acquire:
        lines.append('Acquire::Retries "3";')
    if ca_file:
        lines.append(f'Acquire::https::CAInfo "{ca_file}";')
    return acquire + "\n".join(lines) + "\n"


class PrivateApt:
    """An apt state of our own in a temporary folder, removed with the object."""

    def __init__(self, sources: str, keyring: str, architecture: str) -> None:
        self._keyring = keyring
        self._folder = tempfile.TemporaryDirectory(prefix="debian-apt-")
        self._environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        self._environment["LC_ALL"] = "C"
        root = Path(self._folder.name).resolve()
        for folder in STATE_FOLDERS:
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        (root / "etc/apt/sources.list").write_text(sources)
        acquire = machine_acquire_settings(self._output("apt-config", "dump", "Acquire"))
        ca_file = next((path for path in map(os.environ.get, CA_VARIABLES) if path and os.path.isfile(path)), "")
        (root / "apt.conf").write_text(render_configuration(root, architecture, acquire, ca_file))
        self._environment["APT_CONFIG"] = str(root / "apt.conf")
        self._output("apt-get", "-q", "update")

    def _run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        program = find_program(command[0])
        return subprocess.run([program, *command[1:]], cwd=cwd, env=self._environment, capture_output=True, text=True)

    def _output(self, *command: str, cwd: Path | None = None) -> str:
        result = self._run(*command, cwd=cwd)
        if result.returncode:
            raise zc.buildout.UserError(explain(result.stderr + result.stdout, self._keyring))
        return result.stdout

    def lookup(self, names: Sequence[str]) -> dict[str, Package]:
        """The candidate version of each name; names that apt does not know are left out."""
        return parse_packages(self._run("apt-cache", "show", "--no-all-versions", *names).stdout)

    def download(self, packages: Sequence[Package], folder: Path) -> list[Path]:
        """The verified files of the packages; apt checks each against the signed index, and so do we."""
        folder.mkdir(parents=True, exist_ok=True)
        specifications = [f"{package.name}={package.version}" for package in packages]
        self._output("apt-get", "-q", "download", *specifications, cwd=folder)
        files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob("*.deb")}
        for package in packages:
            if package.sha256 not in files:
                raise zc.buildout.UserError(
                    f"Debian package {package.name} {package.version} does not have the checksum of the signed index: "
                    "try again, or set the option `mirror`."
                )
        return [files[package.sha256] for package in packages]


_states: dict[str, PrivateApt] = {}


def private_apt(sources: str, keyring: str, architecture: str) -> PrivateApt:
    """The state for these sources, made once a process: several parts share one download of the indices."""
    if sources not in _states:
        logger.info("Reading the package indices of Debian.")
        _states[sources] = PrivateApt(sources, keyring, architecture)
    return _states[sources]
