# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-renew-certificates: gets, renews and loads the partition's certificates; the scheduler runs it often.

Each part stands alone: what fails leaves its old files in place and is one line and exit status 1, while the others go
on. Everything is compared before it is written, so that a run with nothing to do changes nothing.
"""

import argparse
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import Busy, CertificateError, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import logs, primary, replica, sql
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import authority, certificates, join, own, status, template, waiting
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.certificates import RENEW_UNDER
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.template import Template

OWN = "own"
"""Our own authority's name in authority.json, whatever its address is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all is as it should be, 1 something is not (each in one sentence), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="mariadb-renew-certificates", description="Renew what is due, now.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = parser.parse_args(arguments).config
    return process.program(lambda: one_at_a_time(replica.effective(configuration.load(path))))


def one_at_a_time(config: Config) -> int:
    """Renew and load, unless another run is at it."""
    os.umask(0o077)
    try:
        with process.lock(
            config.path("var", "run", "certificates.lock"), "certificates are being renewed by another run"
        ):
            return Run(config, times.now()).complete()
    except Busy as error:
        process.log(f"busy: {error}")
        return os.EX_TEMPFAIL


# ---- decide


def due(text: str, kind: Template, known: Trust, now: datetime) -> str:
    """Why the key and certificate in `text` (empty: none) have to be replaced; empty when they are good."""
    if not text:
        return "there is none"
    try:
        pair = certificates.pair(text)
        if certificates.is_placeholder(pair.certificate):
            return "it is a placeholder"
        authority.check_certificate(pair.certificate, kind, known, now)
    except CertificateError as error:
        return str(error)
    left = certificates.life_left(pair.certificate, now)
    return f"{left:.0%} of its life is left" if left < RENEW_UNDER else ""


def is_renewable(text: str, kind: Template, known: Trust, now: datetime) -> bool:
    """Whether the old key may ask for a new certificate that says the same."""
    try:
        authority.check(text, kind, known, now)
    except CertificateError:
        return False
    return True


# ---- act


@dataclass
class Run:
    """One run; `failed` counts the parts that did not succeed."""

    config: Config
    now: datetime
    failed: int = field(default=0, init=False)

    @property
    def where(self) -> Files:
        return Files(self.config.tls)

    def complete(self) -> int:
        """Do all parts; returns the exit status."""
        known = self._part(self._own_trust)
        if known:
            for path, kind in ((self.where.server, template.server(self.config)), (self.where.client, template.CLIENT)):
                self._part(partial(self._own_pair, path, kind, known))
            self._part(self._sign_listed)
        if status.follows_with_tls(self.config):
            self._part(self._upstream)
        self._part(partial(load, self.config))
        return 1 if self.failed else 0

    def _part(self, work: Callable[[], Trust | None]) -> Trust | None:
        try:
            return work()
        except join.Pending as error:  # for a person: neither a failure, nor a reason to try more often
            process.log(str(error))
        except Exception as error:  # a damaged file, say, must not keep the servers from what is new
            self.failed += 1
            process.log(f"error: {process.describe(error)}")
        return None

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
        _replace(self.where.ca, known.ca)
        _replace(self.where.crl, known.crl)
        _replace(self.where.authority, json.dumps({"caucased-url": source}, indent=2) + "\n")
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

    # -- the primary's authority

    def _upstream(self) -> None:
        upstream = self.where.upstream
        url = join.record(upstream).get("caucased-url", "")
        try:
            old, text = join.read_trust(upstream), join.read(upstream.client)
        except CertificateError as error:
            self._join_again(str(error))
            return
        try:
            known = authority.trust(url, *_parts(old), self.now)
        except CertificateError as error:
            if isinstance(error.__cause__, OSError | HTTPException) or not self._has_endpoint():
                raise
            self._join_again(str(error))  # another authority is there than the one that we know
            return
        _replace(upstream.ca, known.ca)
        _replace(upstream.crl, known.crl)
        reason = due(text, template.CLIENT, known, self.now)
        if reason and not is_renewable(text, template.CLIENT, known, self.now):
            self._join_again(reason)
        elif reason:
            new = authority.renew(url, certificates.pair(text))
            authority.check(new, template.CLIENT, known, self.now)
            process.write_atomically(upstream.client, new)
            process.log(f"upstream/{upstream.client.name}: a new certificate, as {reason}")

    def _join_again(self, reason: str) -> None:
        if self.config.replication is None:
            raise CertificateError(
                f"the certificate of the primary's authority cannot be used ({reason}), and without the parameter "
                "replication we cannot ask for another one: give replication.primary-url as the primary publishes it"
            )
        given = primary.parse(self.config.replication.primary_url)
        present = replace(given, password=self.config.secrets.replication_password)
        try:
            join.join(self.config, present)  # the password may have been changed since it was a parameter
        except CertificateError:
            if present == given:
                raise
            join.join(self.config, given)
        process.log(f"upstream/client.pem: a new certificate, as {reason}")

    def _has_endpoint(self) -> bool:
        replication = self.config.replication
        return replication is not None and bool(primary.parse(replication.primary_url).endpoint)


def _parts(known: Trust | None) -> tuple[tuple, tuple]:
    return (known.authorities, known.lists) if known else ((), ())


def _replace(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        process.write_atomically(path, text)
        process.log(f"{path.name}: changed")


# ---- loading


@dataclass(frozen=True)
class Loaded:
    """Fingerprints of the files that each server was last told to read; empty: none of which we know."""

    mariadb: str = ""
    nginx: str = ""


def loaded_file(config: Config) -> Path:
    """Where Loaded is kept."""
    return config.path("var", "run", "certificates-loaded.json")


def read_loaded(config: Config) -> Loaded:
    """What was loaded last; nothing when that cannot be read, which loads once more."""
    try:
        found = json.loads(loaded_file(config).read_text())
        return Loaded(str(found["mariadb"]), str(found["nginx"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Loaded()


def present(config: Config) -> str:
    """The fingerprint of what mariadbd and nginx read."""
    where = Files(config.tls)
    return certificates.fingerprint(*(path.read_bytes() for path in (where.ca, where.crl, where.server)))


def load(config: Config) -> None:
    """Have both servers read the files when they changed since that was last done; one that is down does by itself.

    Raises Error for a server that refuses them: that is tried again at the next run.
    """
    before, wanted = read_loaded(config), present(config)
    if before.nginx != wanted and _load_nginx(config):
        before = Loaded(before.mariadb, wanted)
        _save(config, before)
    if before.mariadb != wanted and _load_mariadb(config):
        _save(config, Loaded(wanted, before.nginx))


def _save(config: Config, loaded: Loaded) -> None:
    process.write_atomically(loaded_file(config), json.dumps({"mariadb": loaded.mariadb, "nginx": loaded.nginx}) + "\n")


def _load_nginx(config: Config) -> bool:
    master = logs.nginx_master(config.nginx_pid)
    if master is None:
        return False
    os.kill(master, signal.SIGHUP)
    process.log("nginx reads the certificates anew")
    return True


def _load_mariadb(config: Config) -> bool:
    if not config.socket.exists():
        return False
    try:
        connection = sql.connect(config.defaults_file, timeout=sql.CONNECT_TIMEOUT)
    except sql.AccessDenied:
        raise
    except ServerError:
        return False
    with connection:
        sql.flush_ssl(connection)
    process.log("MariaDB reads the certificates anew")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
