# SPDX-License-Identifier: GPL-2.0-or-later
"""Gets, renews and loads a partition's certificates; the scheduler runs it often.

Each part stands alone: what fails leaves its old files in place and is one line and exit status 1, while the others go
on. Everything is compared before it is written, so that a run with nothing to do changes nothing.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Busy, CertificateError
from slapos.recipe.erp5.tls import authority, certificates, join, own, template, waiting
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.member import Member, due, is_renewable, replace
from slapos.recipe.erp5.tls.partition import Partition
from slapos.recipe.erp5.tls.parts import Parts
from slapos.recipe.erp5.tls.service import Service
from slapos.recipe.erp5.tls.template import Template

OWN = "own"
"""Our own authority's name in authority.json, whatever its address is."""


def one_at_a_time(service: Service) -> int:
    """Renew and load, unless another run is at it. Returns a program's exit status."""
    return alone(lock_file(service.config), Run(service, times.now()).complete)


def lock_file(config: Partition) -> Path:
    """What a run holds."""
    return config.path("var", "run", "certificates.lock")


def alone(lock: Path, complete: Callable[[], int]) -> int:
    """A run's exit status, unless another one is at it."""
    os.umask(0o077)
    try:
        with process.lock(lock, "certificates are being renewed by another run"):
            return complete()
    except Busy as error:
        process.log(f"busy: {error}")
        return os.EX_TEMPFAIL


# ---- act


@dataclass
class Run(Parts):
    """One run."""

    service: Service
    now: datetime

    @property
    def config(self) -> Partition:
        return self.service.config

    @property
    def where(self) -> Files:
        return Files(self.config.tls)

    def complete(self) -> int:
        """Do all parts; returns the exit status."""
        known = self.part(self._own_trust)
        if known:
            for path, kind in (
                (self.where.server, template.server(self.config)),
                (self.where.client, template.client(self.config.terms)),
            ):
                self.part(partial(self._own_pair, path, kind, known))
            self.part(self._sign_listed)
        if self.service.follows():
            self.part(self._upstream)
        self.part(partial(load, self.service))
        return self.status

    # -- our own authority, or the external one

    def _own_trust(self) -> Trust:
        """The present certificates and lists of our authority, written where they changed."""
        external, url = bool(self.config.caucased.external_caucased_url), own.contact(self.config)
        source = url if external else OWN
        old = self._old_trust() if join.record(self.where).get("caucased-url") == source else None
        if external:
            known = authority.trust(url, *(_parts(old)), self.now, first_use=old is None)
        else:
            anchors = authority.own_certificates(self.config)
            known = authority.trust(url, anchors, old.lists if old else (), self.now)
        replace(self.where.ca, known.ca)
        replace(self.where.crl, known.crl)
        replace(self.where.authority, json.dumps({"caucased-url": source}, indent=2) + "\n")
        return known

    def _old_trust(self) -> Trust | None:
        try:
            return join.read_trust(self.where)
        except CertificateError:
            return None

    def _own_pair(self, path: Path, kind: Template, known: Trust) -> None:
        old = path.read_text() if path.exists() else ""
        reason = due(old, kind, known, self.now)
        if not reason:
            return
        if not self.config.caucased.external_caucased_url:
            new = authority.issue(self.config, kind)
        elif is_renewable(old, kind, known, self.now):
            new = authority.renew(own.contact(self.config), certificates.pair(old))
        else:
            new = self._asked_for(path, kind)
        authority.check(new, kind, known, self.now)
        process.write_atomically(path, new)
        self.where.pending(path).unlink(missing_ok=True)
        process.log(f"{path.name}: a new certificate, as {reason}")

    def _asked_for(self, path: Path, kind: Template) -> str:
        """Key and certificate for a request that somebody approves at the external authority. Raises Pending."""
        pending, url = self.where.pending(path), own.contact(self.config)
        asked = waiting.request(pending, kind)
        number, certificate = authority.obtain(url, asked)
        if not certificate:
            raise join.Pending(
                f"{path.name}: our certificate request {number} (CN={kind.name}) waits at {url} for somebody's "
                "approval: have it signed there; then it goes on by itself"
            )
        return waiting.key_of(pending) + certificate

    def _sign_listed(self) -> None:
        count = authority.sign_listed(self.config)
        if count:
            process.log(f"signed {count} certificate requests that caucased.csr-to-sign lists")

    # -- the authority of another partition

    def _upstream(self) -> None:
        upstream = self.where.upstream
        name = f"upstream/{upstream.client.name}"
        Member(upstream, name, self.config.terms, self.service.givers, self.now).keep()


def _parts(known: Trust | None) -> tuple[tuple, tuple]:
    return (known.authorities, known.lists) if known else ((), ())


# ---- loading


def loaded_file(config: Partition) -> Path:
    """Where read_loaded()'s answer is kept."""
    return config.path("var", "run", "certificates-loaded.json")


def read_loaded(config: Partition) -> dict[str, str]:
    """By server, the fingerprint of the files that it was last told to read; where there is none it is told again."""
    try:
        found = json.loads(loaded_file(config).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}


def present(config: Partition) -> str:
    """The fingerprint of what servers read."""
    where = Files(config.tls)
    return certificates.fingerprint(*(path.read_bytes() for path in (where.ca, where.crl, where.server)))


def load(service: Service) -> None:
    """Have the servers read the files when they changed since that was last done; one that is down does by itself.

    Raises Error for a server that refuses them: that is tried again at the next run.
    """
    servers = service.servers()
    if not servers:
        return
    loaded, wanted = read_loaded(service.config), present(service.config)
    for server in servers:
        if loaded.get(server.name) != wanted and server.load():
            loaded[server.name] = wanted
            process.write_atomically(loaded_file(service.config), json.dumps(loaded) + "\n")
