# SPDX-License-Identifier: GPL-2.0-or-later
"""The two partitions of benchmarks/takeover: a primary and its replica, each with all its services."""

import contextlib
import dataclasses
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.mariadb import primary, private_server, sql_replication
from slapos.recipe.erp5.mariadb.config import (
    REPLICATION_USER,
    Backup,
    Config,
    LogicalBackup,
    PhysicalBackup,
    Replication,
    SemiSync,
)
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.passwords import make_token
from slapos.recipe.erp5.tls import own
from tests.service import servers
from tests.service.servers import wait_for

SUPERVISE = servers.ROOT / "slapos" / "recipe" / "erp5" / "supervise.py"
NO_BACKUPS = Backup(LogicalBackup(False, "daily", 7), PhysicalBackup(False, "daily", 7, 6), max_rate=0)
TEMPLATE = "srv.template"
"""The folder `srv` as it was when both had just been made: each takeover begins with it."""


class Machine:
    """A partition with its services: mariadbd under its supervisor, nginx, mariadb-control, caucased."""

    def __init__(self, config: Config) -> None:
        self.config, self.children = config, list[subprocess.Popen]()
        self.folder = Path(config.partition)
        self.log = config.path("var", "log", "services.log")
        config.control_token.write_text(make_token())
        self.write_nginx()
        servers.write_program(config.path("bin", "mariadb-install"), "slapos.recipe.erp5.mariadb.install")
        programs, json_file = (shlex.quote(str(config.path(*names))) for names in (("bin",), ("etc", "mariadb.json")))
        install = f'{programs}/mariadb-install --config {json_file} --data-directory "$MARIADB_DATA_DIRECTORY"'
        context = {**servers.service_context(config), "custom_install": install}
        servers.write_script(config.path("bin", "mariadb-service"), context)

    def write_nginx(self) -> None:
        config = self.config
        folders = {"srv": "srv", "backup": "srv/backup", "run": "var/run", "log": "var/log", "nginx": "var/run/nginx"}
        config.path("var", "run", "nginx").mkdir(exist_ok=True)
        content = servers.render(
            "stack/erp5/mariadb/nginx.conf.in",
            directory={name: str(config.path(folder)) for name, folder in folders.items()},
            address={"ipv4": config.network.ipv4, "ipv6": config.network.ipv6},
            port=config.network.backup_port,
            control_port=config.network.control_port,
            token=config.secrets.backup_token,
            parameters={"replicas-use-tls": True},
        )
        config.path("etc", "nginx.conf").write_text(content)

    # ---- its services

    def start(self) -> None:
        """Start all of them, and wait until they answer, and the certificates are there."""
        nginx, config = servers.part("nginx") + "/sbin/nginx", self.config
        self.python("mariadb.caucased")
        wait_for(self.authority_answers, "the certificate authority")
        self.python("mariadb.renew_certificates")
        assert self.children.pop().wait(servers.PATIENCE) == 0, f"no certificates, see {self.log}"
        self.spawn(nginx, "-e", self.log, "-p", self.folder, "-c", self.folder / "etc/nginx.conf")
        self.python("mariadb.control")
        service = [sys.executable, "-I", "-S", "-B", SUPERVISE, "--name", "mariadb", "--run", config.service.run, "--"]
        self.spawn(*service, config.path("bin", "mariadb-service"))
        wait_for(lambda: private_server.answers(config.socket), f"mariadbd (see {self.log})")
        wait_for(lambda: config.nginx_pid.exists() and config.control_socket.exists(), "nginx and mariadb-control")

    def authority_answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return urlopen(f"{own.url(self.config)}/cas/crl", timeout=5).status == 200
        return False

    @property
    def json(self) -> Path:
        return self.config.path("etc", "mariadb.json")

    def python(self, module: str) -> None:
        self.spawn(sys.executable, "-m", f"slapos.recipe.erp5.{module}", "--config", self.json)

    def spawn(self, *command: str | Path) -> None:
        with self.log.open("ab") as log:
            self.children.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "OPENSSL_CONF": os.devnull},
                    start_new_session=True,
                )
            )

    def kill(self) -> None:
        """SIGKILL to all, as when the machine is gone: frozen before, none notices another's end."""
        processes = [*sorted(self._trees(), key=lambda one: one.name() != "mariadbd"), *self.children]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    os.kill(process.pid, number)

    def stop(self) -> None:
        """SIGTERM to each service, as SlapOS stops them."""
        trees = self._trees()
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in self.children:
            child.wait(servers.PATIENCE)
        psutil.wait_procs(trees, servers.PATIENCE)
        self.children.clear()
        for name in ("nginx.pid", "control.sock"):
            self.config.path("var", "run", name).unlink(missing_ok=True)

    def _trees(self) -> list[psutil.Process]:
        """All that descend from the services."""
        found = []
        for child in self.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(child.pid).children(recursive=True)
        return found

    # ---- its parameters, and what it publishes

    def ask(self, **changes: Any) -> None:
        """Other parameters, as processing the partition writes them."""
        self.config = dataclasses.replace(self.config, **changes)
        servers.write_json(self.config)

    @property
    def takeover_url(self) -> str:
        return token.url(self.config, token.load(self.config))

    @property
    def primary_url(self) -> str:
        network = self.config.network
        endpoint = f"https://{network.ipv4}:{network.backup_port}"
        password = self.config.secrets.replication_password
        return primary.url(Primary(network.ipv4, network.port, REPLICATION_USER, password, endpoint))

    def act(self, name: str, **options: str | bool) -> tuple[int, str]:
        """Run an action to its end, as bin/mariadb-takeover and its like do: its exit code, and its last line."""
        command = [sys.executable, "-m", "slapos.recipe.erp5.mariadb.actions", name, "--config", str(self.json)]
        given = json.dumps({key.replace("_", "-"): value for key, value in options.items()})
        done = subprocess.run(
            [*command, "--options-on-stdin"], input=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        with self.log.open("a") as log:
            log.write(done.stdout)
        return done.returncode, (done.stdout.strip().splitlines() or ["it said nothing"])[-1]

    def sources(self) -> tuple[sql_replication.Source, ...]:
        with servers.administrator(self.config) as connection:
            return sql_replication.sources(connection)

    def position(self) -> str:
        with servers.administrator(self.config) as connection:
            return sql_replication.server_facts(connection).position


class Pair:
    """Two machines; `primary` and `replica` say which of them is what now."""

    def __init__(self, folder: Path) -> None:
        self.primary = Machine(servers.make_config(folder / "p", instance="first", mroonga=False, backup=NO_BACKUPS))
        self.primary.start()
        first = self.primary
        replication = Replication(
            primary_url=first.primary_url,
            bootstrap_url="",
            caucased_url="",
            seconds_behind_master_threshold=60,
            allow_tcp_connections_on_replica=True,
            replicate_with_tls=True,
            control_url=first.takeover_url,
        )
        secrets = dataclasses.replace(first.config.secrets, administrator_password="another-administrator")
        config = servers.make_config(
            folder / "r",
            instance="second",
            mroonga=False,
            backup=NO_BACKUPS,
            replication=replication,
            secrets=secrets,
        )
        self.replica = Machine(config)
        self.replica.start()
        self.made = self.machines
        self.wait()

    @property
    def machines(self) -> tuple[Machine, Machine]:
        return self.primary, self.replica

    def is_caught_up(self) -> bool:
        """Whether the replica follows, and has all that the primary has."""
        sources = self.replica.sources()
        running = bool(sources) and (sources[0].io.running, sources[0].sql.running) == ("Yes", "Yes")
        return running and self.replica.position() == self.primary.position()

    def wait(self) -> None:
        wait_for(self.is_caught_up, "the replica to have all that the primary has")

    def wait_for_semi_sync(self) -> None:
        question = (
            "SHOW GLOBAL STATUS WHERE variable_name IN ('Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_clients')"
        )
        wait_for(
            lambda: {value for _, value in servers.query(self.primary.config, question)} == {"ON", "1"}, "semi-sync"
        )

    def turn(self) -> None:
        """They have exchanged their roles."""
        self.primary, self.replica = self.replica, self.primary

    def keep(self) -> None:
        """Keep what they have now as what each takeover begins with."""
        for machine in self.machines:
            machine.stop()
            shutil.copytree(machine.folder / "srv", machine.folder / TEMPLATE)
        for machine in self.machines:
            machine.start()

    def restore(self, semi_sync: bool) -> None:
        """Begin again with what was kept, with semi-sync or without."""
        self.stop()
        self.primary, self.replica = self.made
        for machine in self.machines:
            shutil.rmtree(machine.folder / "srv")
            shutil.copytree(machine.folder / TEMPLATE, machine.folder / "srv")
            machine.ask(semi_sync=SemiSync(semi_sync, 10))
        for machine in self.machines:
            machine.start()
        self.wait()
        if semi_sync:
            self.wait_for_semi_sync()

    def stop(self) -> None:
        for machine in self.machines:
            if machine.children:
                machine.stop()
