# SPDX-License-Identifier: GPL-2.0-or-later
"""MariaDB's plug for certificates: who gives a replica its own, what reads them, what shows them (tls/service.py)."""

import signal
import ssl
from dataclasses import dataclass, replace
from functools import partial

import pymysql

from slapos.recipe.erp5 import nginx, process
from slapos.recipe.erp5.errors import Error, ServerError
from slapos.recipe.erp5.mariadb import primary, sql, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.tls import certificates, status
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.service import Look, Server
from slapos.recipe.erp5.words import bracketed


def giver(config: Config, source: Primary) -> Giver:
    """The primary as the giver of our certificate as its replica."""
    url = config.replication.caucased_url if config.replication else ""
    return Giver(Files(config.tls).upstream, TERMS, source.endpoint, source.password, url)


@dataclass(frozen=True)
class Certificates:
    """A MariaDB partition, as tls/service.py wants it."""

    config: Config

    def follows(self) -> bool:
        """Whether the database is a replica that has a certificate of its primary's authority, or should have one."""
        wanted = self.config.replication is not None and self.config.replication.replicate_with_tls
        if not (wanted or Files(self.config.tls).upstream.client.exists()):
            return False
        try:
            with sql.connect(self.config.defaults_file, timeout=status.TIMEOUT) as connection:
                return sql.is_replica(connection)
        except Error:
            return False  # no server: whoever is making one joins by itself, and a stopped one needs no certificate

    def givers(self) -> tuple[Giver, ...]:
        """The primary, with the present password and the one in the parameters, as it may have been changed since."""
        if self.config.replication is None:
            return ()
        given = primary.parse(self.config.replication.primary_url)
        present = replace(given, password=self.config.secrets.replication_password)
        return tuple(giver(self.config, one) for one in dict.fromkeys((present, given)))

    def servers(self) -> tuple[Server, ...]:
        return Server("nginx", self._load_nginx), Server("mariadb", self._load_mariadb)

    def _load_nginx(self) -> bool:
        told = nginx.tell(self.config.nginx_pid, signal.SIGHUP)
        if told:
            process.log("nginx reads the certificates anew")
        return told

    def _load_mariadb(self) -> bool:
        if not self.config.socket.exists():
            return False
        try:
            connection = sql.connect(self.config.defaults_file, timeout=sql.CONNECT_TIMEOUT)
        except sql.AccessDenied:
            raise
        except ServerError:
            return False
        with connection:
            sql.flush_ssl(connection)
        process.log("MariaDB reads the certificates anew")
        return True

    def looks(self) -> tuple[Look, ...]:
        """MariaDB, and nginx on each address where it speaks TLS."""
        network = self.config.network
        hosts = [host for host in (network.ipv6, network.ipv4 if self.config.replicas_use_tls else "") if host]
        port = network.backup_port
        nginx = (Look(f"nginx at {bracketed(host)}:{port}", partial(status.shown, host, port)) for host in hosts)
        return Look("MariaDB", self._shown_by_mariadb), *nginx

    def _shown_by_mariadb(self) -> str:
        """Over its socket, where the administration account may always log in; certificates are the same everywhere."""
        limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), status.TIMEOUT)
        try:
            connection = pymysql.connect(
                read_default_file=str(self.config.defaults_file),
                unix_socket=str(self.config.socket),
                ssl=unverified(),
                **limits,
            )
        except pymysql.MySQLError as error:
            raise OSError(str(error)) from error
        with connection:
            peer = connection._sock
            if not isinstance(peer, ssl.SSLSocket):
                raise ssl.SSLError("it offers no TLS")
            return certificates.fingerprint(peer.getpeercert(True) or b"")

    def shut_out(self) -> str:
        """Disconnect all replicas."""
        with sql.connect(self.config.defaults_file) as connection:
            count = sql_replication.disconnect_replicas(connection)
        return f"{count} replicas were disconnected, and come back unless they have that certificate"
