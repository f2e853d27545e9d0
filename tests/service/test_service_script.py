# SPDX-License-Identifier: GPL-2.0-or-later
"""The service script: one database, made once, whatever interrupts it, and nothing else ever removed or initialised."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from slapos.recipe.erp5.mariadb.config import Config, Database
from tests.service import servers
from tests.service.servers import Service

STEP = re.compile(r"^\S+ \S+ (step: .*)$", re.MULTILINE)
# Few things to create, so that each of the steps can be killed in a reasonable time.
ZONES = "load the time zones"
SMALL = {"databases": (Database("erp5", "user", servers.NASTY_PASSWORD),), "test_databases": ()}
# All steps of a creation and the start that follows: a new one has to be added here, and so gets killed.
STEPS = (
    "remove an unfinished database",
    "initialise SRV/mariadb.new",
    "on_creation",
    "start a private server, and make the administration account",
    "keep only the server's own accounts",
    "install Mroonga",
    "create the databases and users",
    "provision: created account replication_user@%.%.%.%",
    "provision: created grant REPLICATION SLAVE TO replication_user@%.%.%.%",
    "provision: created database erp5",
    "provision: created account user@localhost",
    "provision: created grant ALL ON erp5 TO user@localhost",
    "provision: created account user@%.%.%.%",
    "provision: created grant ALL ON erp5 TO user@%.%.%.%",
    "stop the private server",
    "sync",
    "rename to SRV/mariadb",
    "the database is complete",
    "prepare the start, as nothing is known about this data directory yet",
    ZONES,
    "serve",
)


def steps(service: Service) -> list[str]:
    """The steps in the service's log, without times and durations."""
    found = [step.removeprefix("step: ").partition(", 0 s after")[0] for step in STEP.findall(service.log())]
    found = [re.sub(r", \d+ s after the beginning$", "", step) for step in found if ": done in " not in step]
    return [step.replace(str(service.config.path("srv")), "SRV") for step in found]


def reached(service: Service, step: str) -> bool:
    """Whether the service has got to that step, or the database is complete."""
    return step in steps(service) or service.config.data_directory.exists()


def database(config: Config) -> tuple[dict[str, str], list[tuple], list[tuple]]:
    """What creation has to result in: accounts with grants, databases, and the memory of both."""
    schemata = "SELECT schema_name, default_collation_name FROM information_schema.schemata ORDER BY 1"
    memory = "SELECT kind, name FROM slapos.provisioned ORDER BY 1, 2"
    return servers.accounts(config), servers.query(config, schemata), servers.query(config, memory)


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[tuple]:
    """The database that a creation results in when nothing interrupts it."""
    folder = Path(tempfile.mkdtemp(prefix="e5-", dir="/tmp"))
    with servers.running(servers.make_config(folder, **SMALL)) as service:
        assert tuple(steps(service)) == STEPS
        yield database(service.config)
    shutil.rmtree(folder)


@pytest.fixture
def small(partition: Path) -> Iterator[Service]:
    """The service of a fresh partition with few things to create."""
    service = Service(servers.make_config(partition, **SMALL))
    yield service
    servers.stop_for_good(service)


def with_hooks(config: Config, **hooks: str) -> Service:
    """A service whose script has other hooks than ours."""
    plain = {name: value for name, value in servers.service_context(config).items() if not name.startswith("on_")}
    script = config.path("bin", "other-service")
    servers.write_script(script, {**plain, **hooks})
    return Service(config, script)


@pytest.fixture
def hooked(config: Config) -> Iterator[Callable[..., Service]]:
    """Makes services of one partition with other hooks; whatever is left running is ended."""
    made: list[Service] = []

    def make(**hooks: str) -> Service:
        made.append(with_hooks(config, **hooks))
        return made[-1]

    yield make
    for service in made:
        servers.stop_for_good(service)


# ---- interruptions


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_start_ends_with_a_complete_database(small, undisturbed, step):
    if step == ZONES:
        servers.use_all_time_zones(small.config)
    small.start()
    servers.wait_for(lambda: step in steps(small), step)
    small.kill()
    small.run()
    assert database(small.config) == undisturbed
    assert not small.config.path("srv", "mariadb.new").exists()


def test_the_script_alone_killed_at_every_step_in_turn(small, undisturbed):
    """Its children live on, and the next start waits for them, so they cannot spoil what it begins again."""
    killed = []
    for step in STEPS:
        small.log_file.unlink(missing_ok=True)
        process = small.start()
        servers.wait_for(partial(reached, small, step), step)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed.append(step)
        if small.config.data_directory.exists():
            break
    assert "create the databases and users" in killed  # the last ones pass so quickly that some may be missed
    small.run()
    assert database(small.config) == undisturbed


def test_killed_at_random_times_it_completes_in_the_end(small, undisturbed):
    seed = random.randrange(10**6)
    print("seed", seed)
    generator = random.Random(seed)
    for _ in range(12):
        small.start()
        time.sleep(generator.uniform(0, 3))  # the moment is what is random here: nothing is waited for
        small.kill()
    small.run()
    assert database(small.config) == undisturbed


@pytest.mark.parametrize("step", ["initialise SRV/mariadb.new", "install Mroonga", ZONES])
def test_sigterm_for_the_script_alone_ends_all_that_it_started(small, undisturbed, step):
    if step == ZONES:
        servers.use_all_time_zones(small.config)
    process = small.start()
    servers.wait_for(lambda: step in steps(small), step)
    process.terminate()
    assert process.wait(servers.PATIENCE) == 143
    assert small.group() == []
    small.run()
    assert database(small.config) == undisturbed


def test_sigterm_does_not_wait_for_a_hook_that_takes_long(hooked):
    service = hooked(on_creation="echo hooked >&2\nsleep 3600")
    process = service.start()
    servers.wait_for(lambda: "hooked" in service.log(), "the hook")
    process.terminate()
    assert process.wait(servers.PATIENCE) == 143
    assert service.group() == []
    assert steps(service)[-1] == "stop, as asked by a signal"


def test_a_start_waits_for_the_orphan_of_a_killed_one(hooked, config):
    go = config.path("go")
    service = hooked(on_creation=f"until [ -e {go} ]; do sleep 0.1; done\n[ -d $MARIADB_DATA_DIRECTORY/mysql ]")
    first = service.start()
    servers.wait_for(lambda: "on_creation" in steps(service), "the hook")
    first.kill()
    first.wait()
    service.start()
    waiting = "wait until another process lets go of SRV/mariadb.lock"
    servers.wait_for(lambda: waiting in steps(service), "the second start")
    assert config.path("srv", "mariadb.new").is_dir()
    assert steps(service).count("on_creation") == 1
    go.touch()
    service.wait_until_it_answers()
    assert steps(service)[-1] == "serve"


def test_the_server_itself_holds_the_lock(small):
    small.run()
    second = Service(small.config)
    process = second.start()
    servers.wait_for(lambda: "wait until another process lets go of SRV/mariadb.lock" in steps(second), "the second")
    process.terminate()
    assert process.wait(servers.PATIENCE) == 143
    assert small.answers()


# ---- what is already there


def refusal(service: Service) -> str:
    """The last line, without its time, of a service that refuses to start."""
    process = service.start()
    assert process.wait(servers.PATIENCE) == 1
    return service.log().splitlines()[-1].split(" ", 2)[2]


def test_an_empty_directory_is_refused_and_kept(small):
    small.config.data_directory.mkdir()
    assert refusal(small) == (
        f"error: {small.config.data_directory} exists and is not a database (no mysql/ and ibdata1 in it): mount or"
        " restore what belongs there, or remove it to begin with an empty database"
    )
    assert list(small.config.data_directory.iterdir()) == []


def test_a_directory_with_other_things_is_refused_and_kept(small):
    directory = small.config.data_directory
    directory.mkdir()
    (directory / "precious").write_text("kept")
    (directory / "mysql").mkdir()
    assert "exists and is not a database" in refusal(small)
    assert sorted(path.name for path in directory.iterdir()) == ["mysql", "precious"]


def test_a_link_to_nowhere_is_refused_and_kept(small, partition):
    """A data directory on a disk that is not mounted must not become an empty database."""
    small.config.data_directory.symlink_to(partition / "disk")
    assert refusal(small) == (
        f"error: {small.config.data_directory} is a link to {partition}/disk, which does not exist: mount or restore"
        " what it points to, or remove the link to begin with an empty database"
    )
    assert not (partition / "disk").exists()


def test_a_link_to_a_database_is_served(small, partition):
    small.run()
    small.end()
    small.config.data_directory.rename(partition / "disk")
    small.config.data_directory.symlink_to(partition / "disk")
    small.run()
    assert servers.query(small.config, "SELECT COUNT(*) > 0 FROM slapos.provisioned") == [(1,)]


def test_a_folder_beside_a_complete_database_is_kept(small):
    small.run()
    small.end()
    beside = small.config.path("srv", "mariadb.new", "mysql")
    beside.mkdir(parents=True)
    small.run()
    assert beside.exists()


# ---- hooks


def test_a_hook_ends_at_the_first_command_that_fails_and_creation_begins_again(hooked, config):
    failing = hooked(on_creation="echo first >&2\nfalse\necho second >&2")
    assert refusal(failing) == "error: on_creation ended with status 1: its reason is above"
    assert "first" in failing.log()
    assert "second" not in failing.log()
    assert not config.data_directory.exists()
    service = hooked(on_creation='echo made >"$MARIADB_DATA_DIRECTORY/by-hook"')
    service.run()
    assert (config.data_directory / "by-hook").read_text() == "made\n"


def test_a_failing_on_start_keeps_the_service_down(hooked, config):
    assert refusal(hooked(on_start="exit 3")) == "error: on_start ended with status 3: its reason is above"
    assert config.data_directory.exists()


def test_on_start_runs_at_every_start_and_on_creation_once(hooked):
    service = hooked(on_creation="echo creating >&2", on_start='echo "starting $MARIADB_DATA_DIRECTORY" >&2')
    service.run()
    service.restart()
    assert service.log().count("creating\n") == 1
    assert service.log().count(f"starting {service.config.data_directory}\n") == 2


def test_custom_install_replaces_the_plain_one(hooked, small, config, partition):
    """What it makes is taken as it is; here a copy of another database with its accounts."""
    copy = partition / "it's a $copy"
    service = hooked(custom_install='cp -a "$SOURCE" "$MARIADB_DATA_DIRECTORY"', environ=f"SOURCE={copy}")
    small.run()
    servers.query(small.config, "CREATE DATABASE copied")
    small.end()
    shutil.move(small.config.data_directory, copy)
    service.run()
    assert ("copied",) in servers.query(config, "SHOW DATABASES")


def test_custom_install_that_makes_nothing_is_named(hooked, config):
    assert refusal(hooked(custom_install="mkdir -p $MARIADB_DATA_DIRECTORY")) == (
        f"error: {config.data_directory}.new is not a database (no mysql/ and ibdata1 in it): custom_install has to"
        " make one"
    )


def test_the_server_gets_the_environment_and_the_script_its_arguments(hooked, config):
    service = hooked(environ="TZ=Asia/Tokyo\n\n  OTHER = it's = $HOME ", on_start='echo "hook: $TZ $OTHER" >&2')
    service.arguments = ("--max-connections=77", "--init-connect=SET @a = 1")
    service.run()
    process = Path("/proc", str(service.process.pid))
    environment = (process / "environ").read_bytes().split(b"\0")
    assert {b"TZ=Asia/Tokyo", b"OTHER=it's = $HOME"} <= set(environment)
    assert "hook: Asia/Tokyo it's = $HOME" in service.log()
    words = (process / "cmdline").read_bytes().split(b"\0")
    assert words[-3:-1] == [b"--max-connections=77", b"--init-connect=SET @a = 1"]


def test_the_server_gets_what_on_start_has_left_in_the_options_file(hooked, config):
    options, following = config.path("var", "odd 'name'.options"), config.path("var", "next")
    following.write_text("--max-connections=77\n--init-connect=SET @a = 'x  \\y'\n")
    service = hooked(
        on_start=f'rm -f "$OPTIONS"\n[ ! -e {following} ] || cp {following} "$OPTIONS"',
        environ=f"OPTIONS={options}",
        options_file=str(options),
    )

    def last_words(count: int) -> list[bytes]:
        return Path("/proc", str(service.process.pid), "cmdline").read_bytes().split(b"\0")[-count - 1 : -1]

    service.run()
    assert last_words(2) == [b"--max-connections=77", b"--init-connect=SET @a = 'x  \\y'"]
    following.unlink()
    service.restart()
    assert last_words(1) == [b"--datadir=" + bytes(config.data_directory)]


def test_everything_is_private(small):
    """The database is one's own from its first byte on, whatever umask the supervisor has."""
    small.run()
    modes = {path: path.stat().st_mode & 0o077 for path in (small.config.data_directory, small.config.socket.parent)}
    assert set(modes.values()) == {0}


# ---- the README's example


@pytest.fixture
def library(config: Config, partition: Path) -> Iterator[Service]:
    """The service that stock buildout makes of the example's profile."""
    component = servers.ROOT / "component" / "mariadb"
    servers.write_program(partition / "bin" / "mariadb-private-server", "slapos.recipe.erp5.mariadb.private_server")
    options = {
        "buildout:directory": partition,
        "release:bin": partition / "bin",
        "release:mariadb": servers.part("mariadb"),
        "release:mariadbd-service-template": component / "mariadbd-service.sh.in",
        "account:password": "example-secret",
    }
    buildout = Path(sys.executable).with_name("buildout")
    command = [sys.executable, str(buildout), "-U", "-o", "-c", str(component / "example" / "instance.cfg")]
    command += [f"{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, cwd=partition, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    service = Service(config, partition / "etc" / "service" / "mariadbd")
    yield service
    servers.stop_for_good(service)


def test_another_stack_uses_the_script(library):
    library.run()
    servers.query(library.config, "INSERT INTO library.book VALUES ('Momo')")
    library.restart()
    assert servers.query(library.config, "SELECT title FROM library.book") == [("Momo",)]
    assert steps(library).count("on_creation") == 1
    assert library.log().count("already upgraded to") == 2


def test_another_stack_s_creation_killed_in_its_hook_begins_again(library):
    library.start()
    servers.wait_for(lambda: "on_creation" in steps(library), "on_creation")
    library.kill()
    library.run()
    assert servers.query(library.config, "SELECT title FROM library.book") == []
