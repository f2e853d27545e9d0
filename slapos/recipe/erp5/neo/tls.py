# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO's plug for certificates (tls/service.py), in the partition of a cluster and in that of a node, or a client.

Each process of NEO, and each client, has one certificate, as a server and as a client; all that its cluster trusts is
in one file, trusted.pem, which has the authorities of the clusters that follow it, or that it follows, too.
"""

import signal
import socket
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from slapos.recipe.erp5 import nginx, process, times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.errors import CertificateError, ConfigurationError
from slapos.recipe.erp5.neo import config as configuration
from slapos.recipe.erp5.neo.config import ClusterConfig, ClusterTls, NodeConfig, NodeTls
from slapos.recipe.erp5.neo.terms import NODE_TERMS, TERMS
from slapos.recipe.erp5.tls import JOB, certificates, introduction, join, own, renew, signer, status, trusted, waiting
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.context import unverified
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.member import Member
from slapos.recipe.erp5.tls.partition import Caucased, Terms
from slapos.recipe.erp5.tls.parts import Parts
from slapos.recipe.erp5.tls.service import Look, Server
from slapos.recipe.erp5.tls.status import Status
from slapos.recipe.erp5.tls.trusted import Other
from slapos.recipe.erp5.words import bracketed

# ---- the URL at which certificates are had for a secret


def url(address: str, secret: str) -> str:
    """What a cluster publishes as neo-certificate-url: its authority's URL `address`, with the secret in it."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{quote(secret, safe='')}@{rest}"


def giver(
    where: Files,
    text: str,
    terms: Terms = TERMS,
    parameter: str = "ssl.upstream-certificate-url",
    publisher: str = "upstream",
) -> Giver:
    """Who is asked for certificates at such a URL, which `parameter` has and the `publisher` publishes.

    Raises ConfigurationError, which quotes nothing of it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        port = None
    if not port or parts.scheme != "http" or not parts.username or parts.path not in ("", "/"):
        raise ConfigurationError(
            f"{parameter}: it is not http://secret@host:port, expected what the {publisher} publishes as "
            "neo-certificate-url"
        )
    return Giver(where, terms, f"http://{parts.netloc.rpartition('@')[2]}", unquote(parts.username))


# ---- the partition of a cluster


@dataclass(frozen=True)
class Authority:
    """A cluster's partition as tls/ knows it (tls/partition.py)."""

    config: ClusterConfig
    network: ClusterTls

    def path(self, *names: str) -> Path:
        return self.config.path(*names)

    @property
    def caucased(self) -> Caucased:
        return self.network.caucased

    @property
    def terms(self) -> Terms:
        return TERMS

    @property
    def tls(self) -> Path:
        return self.path("srv", "tls")

    @property
    def scheduler_state(self) -> Path:
        return self.config.scheduler_state

    @property
    def certificate_secret(self) -> str:
        return self.network.secret


def authority(config: ClusterConfig) -> Authority:
    """Raises ConfigurationError for a cluster without TLS."""
    if config.tls is None:
        raise ConfigurationError("this cluster has no certificates, expected the parameter ssl.enable true")
    return Authority(config, config.tls)


def load(path: Path) -> Authority:
    """Read `etc/neo.json`. Raises ConfigurationError."""
    return authority(configuration.load_cluster(path))


@dataclass(frozen=True)
class Certificates:
    """A cluster's partition, as tls/service.py wants it: nginx is there; what NEO shows is in those of the nodes."""

    config: Authority

    def follows(self) -> bool:
        return False

    def givers(self) -> tuple[Giver, ...]:
        return ()

    def servers(self) -> tuple[Server, ...]:
        return (Server("nginx", self._load_nginx),)

    def _load_nginx(self) -> bool:
        told = nginx.tell(self.config.path("var", "run", "nginx.pid"), signal.SIGHUP)
        if told:
            process.log("nginx reads the certificates anew")
        return told

    def looks(self) -> tuple[Look, ...]:
        host, port = self.config.config.control_host, self.config.config.control_port
        return (Look(f"nginx at {bracketed(host)}:{port}", partial(status.shown, host, port)),)

    def shut_out(self) -> str:
        return "connections that it has stay until they end: restart, one after the other, what it is connected to"


class Run(renew.Run):
    """One run in a cluster's partition: its own certificates, and what it trusts besides."""

    def complete(self) -> int:
        super().complete()
        self.part(self._introduce)
        self.part(lambda: trusted.refresh(self.where, self.now))
        self.part(lambda: trusted.write_bundle(self.where, join.read_trust(self.where), self.now))
        return self.status

    def _introduce(self) -> None:
        """Have the upstream trust us, and trust it; once that is done, an upstream that is gone is no failure."""
        assert isinstance(self.config, Authority)
        upstream_url = self.config.network.upstream_url
        if not upstream_url or self.config.caucased.external_caucased_url:
            return
        asked, ours = giver(self.where, upstream_url), Trust(*signer.own_trust(self.where))
        try:
            found = introduction.ask(asked, Other(own.url(self.config), ours.ca, ours.crl))
        except CertificateError as error:
            if not any(one.url == asked.endpoint for one in trusted.load(self.where)):
                raise
            process.log(f"warning: {error}")
            return
        for one in foreign(found, ours):
            if trusted.save(self.where, one):
                process.log(f"the authority {one.url} is trusted")


def foreign(found: tuple[Other, ...], ours: Trust) -> tuple[Other, ...]:
    """The authorities that are not our own."""
    known = {certificates.public_key(one) for one in ours.authorities}
    return tuple(one for one in found if not known & {certificates.public_key(each) for each in one.trust.authorities})


def renew_cluster(config: Authority) -> int:
    """A regular run. Returns a program's exit status."""
    return renew.alone(renew.lock_file(config), Run(Certificates(config), times.now()).complete)


# ---- the partition of a node, or of a client


@dataclass
class MemberRun(Parts):
    """One run where a certificate of the cluster's authority is needed: that one, and what the cluster trusts."""

    asked: Giver
    now: datetime

    def complete(self) -> int:
        where, terms = self.asked.where, self.asked.terms
        self.part(Member(where, where.client.name, terms, lambda: (self.asked,), self.now).keep)
        if has_certificate(where):
            if self.asked.endpoint:
                self.part(self._introduce)
            self.part(lambda: trusted.write_bundle(where, join.read_trust(where), self.now))
        return self.status

    def _introduce(self) -> None:
        known = join.read_trust(self.asked.where)
        trusted.replace(self.asked.where, foreign(introduction.ask(self.asked, None), known))


def has_certificate(where: Files) -> bool:
    """Whether it has been got: what lies there before is a placeholder for nginx."""
    return not waiting.is_open(where.client)


def member_status(asked: Giver, scheduler_state: Path, looks: tuple[Look, ...], now: datetime) -> Status:
    """What lies on disk, and what `looks` show. Raises Error."""
    where, url = asked.where, asked.authority_url or asked.endpoint
    file, job, there = where.client, state.load(scheduler_state).job(JOB), has_certificate(where)
    if there:
        certificate = status.pair(where, file, url, now)
    else:
        waits, since = where.pending(file).exists(), times.parse(job.since) if job.since else now
        certificate = status.Item(file.name, url, since, placeholder=not waits, waiting=waits)
    return Status(
        certificates=(certificate,),
        lists=(status.revocation_list(where.crl, where.crl.name, url, now),) if there else (),
        shown=status.seen(looks) if there else (),
        fingerprint=status.fingerprint(file),
        job=job,
        requests=0,
        bad_requests=(),
        external="",
        terms=asked.terms,
        file=file.name,
    )


# ---- a node's


def node_tls(config: NodeConfig) -> NodeTls:
    """Raises ConfigurationError for a node without TLS."""
    if config.tls is None:
        raise ConfigurationError("this node has no certificates, expected a cluster with the parameter ssl.enable true")
    return config.tls


def node_files(config: NodeConfig) -> Files:
    return Files(config.path("srv", "tls"))


def node_giver(config: NodeConfig) -> Giver:
    """Whom a node asks. Raises ConfigurationError for one without TLS."""
    tls = node_tls(config)
    endpoint = tls.caucased_url if tls.secret else ""
    return Giver(node_files(config), NODE_TERMS, endpoint, tls.secret, tls.caucased_url)


def renew_node(config: NodeConfig) -> int:
    """A regular run. Returns a program's exit status."""
    asked = node_giver(config)
    return renew.alone(config.path("var", "run", "certificates.lock"), MemberRun(asked, times.now()).complete)


def node_status(config: NodeConfig, now: datetime) -> Status:
    """What lies on a node's disk, and what its processes show. Raises Error."""
    return member_status(node_giver(config), config.scheduler_state, node_looks(config), now)


def node_looks(config: NodeConfig) -> tuple[Look, ...]:
    """Each of the node's processes."""
    addresses = {name: (config.network.ip, config.port(name)) for name in config.names}
    return tuple(Look(f"neo-{name}", partial(shown, config, *where)) for name, where in addresses.items())


def shown(config: NodeConfig, host: str, port: int) -> str:
    """The fingerprint of the certificate that a process of NEO shows. Raises OSError."""
    context = unverified()
    context.load_cert_chain(node_files(config).client)  # without one it ends the conversation
    with socket.create_connection((host, port), status.TIMEOUT) as plain, context.wrap_socket(plain) as connection:
        return certificates.fingerprint(connection.getpeercert(True) or b"")
