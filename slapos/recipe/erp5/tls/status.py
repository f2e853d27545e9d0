# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathers how the partition's certificates stand: what lies on disk, what the servers really show, how renewal goes."""

import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import JOB, certificates, own
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.partition import Partition, Terms
from slapos.recipe.erp5.tls.service import Look, Service

TIMEOUT = 4
"""Seconds that one step of a look at a server may take; a promise is killed after 20 s."""


@dataclass(frozen=True)
class Item:
    """A certificate with its key, or a revocation list: file `name` of srv/tls, written at `written` (None: missing).

    `error` says why it cannot be used at all; `waiting`: its request waits for somebody's approval at `authority`.
    `left` is which part of its life it still has, until `until`.
    """

    name: str
    authority: str
    written: datetime | None = None
    error: str = ""
    placeholder: bool = False
    waiting: bool = False
    left: float = 1.0
    until: datetime | None = None


@dataclass(frozen=True)
class Shown:
    """The certificate (its fingerprint) that the server `who` shows to a new connection.

    Without one, `error` says why it could not be seen: `down` when the server does not answer at all.
    """

    who: str
    fingerprint: str = ""
    error: str = ""
    down: bool = False


@dataclass(frozen=True)
class Status:
    """`fingerprint` is of the certificate in `file`, which servers show; `job` is the record of the renewal.

    `bad_requests` are the positions in `caucased.csr-to-sign` of what is no request; `external` is another authority's
    URL, which is used instead of our own, or empty.
    """

    certificates: tuple[Item, ...]
    lists: tuple[Item, ...]
    shown: tuple[Shown, ...]
    fingerprint: str
    job: Job
    requests: int
    bad_requests: tuple[int, ...]
    external: str
    terms: Terms
    external_differs: bool = False
    file: str = "server.pem"


def gather(service: Service, now: datetime) -> Status:
    """Look. Raises Error when the scheduler's state cannot be read."""
    config = service.config
    where = Files(config.tls)
    pairs, lists = items(service, now)
    return Status(
        certificates=pairs,
        lists=lists,
        shown=seen(service.looks()),
        fingerprint=fingerprint(where.server),
        job=state.load(config.scheduler_state).job(JOB),
        requests=len(config.caucased.csr_to_sign),
        bad_requests=_bad_requests(config),
        external=config.caucased.external_caucased_url,
        terms=config.terms,
        external_differs=config.caucased.external_differs,
    )


def items(service: Service, now: datetime) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The certificates and the revocation lists on disk; no server is looked at."""
    where, authority = Files(service.config.tls), own.url(service.config)
    pairs = [pair(where, where.server, authority, now), pair(where, where.client, authority, now)]
    lists = [revocation_list(where.crl, where.crl.name, authority, now)]
    upstream = where.upstream
    if service.follows():
        pairs.append(pair(upstream, upstream.client, "", now, "upstream/"))
        lists.append(revocation_list(upstream.crl, f"upstream/{upstream.crl.name}", "", now))
    elif upstream.pending(upstream.client).exists() and (givers := service.givers()):
        pairs.append(Item(f"upstream/{upstream.client.name}", givers[-1].authority_url, waiting=True))
    return tuple(pairs), tuple(lists)


# ---- files


def pair(where: Files, path: Path, authority: str, now: datetime, prefix: str = "") -> Item:
    name, waiting = f"{prefix}{path.name}", where.pending(path).exists()
    try:
        certificate = certificates.pair(path.read_text()).certificate
    except FileNotFoundError:
        return Item(name, authority, error="it is missing", waiting=waiting)
    except CertificateError as error:
        return Item(name, authority, _written(path), str(error), waiting=waiting)
    return Item(
        name,
        authority,
        _written(path),
        placeholder=certificates.is_placeholder(certificate),
        waiting=waiting,
        left=certificates.life_left(certificate, now),
        until=certificate.not_valid_after_utc,
    )


def revocation_list(path: Path, name: str, authority: str, now: datetime) -> Item:
    try:
        lists = certificates.revocation_lists(path.read_text())
    except FileNotFoundError:
        return Item(name, authority, error="it is missing")
    except CertificateError as error:
        return Item(name, authority, _written(path), str(error))
    first = min(lists, key=lambda one: certificates.list_life_left(one, now))
    return Item(
        name, authority, _written(path), left=certificates.list_life_left(first, now), until=first.next_update_utc
    )


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def fingerprint(path: Path) -> str:
    try:
        return _of(certificates.parts(path.read_text(), "CERTIFICATE")[0])
    except (OSError, IndexError, ValueError):
        return ""


def _of(text: str) -> str:
    return certificates.fingerprint(ssl.PEM_cert_to_DER_cert(text))


def _bad_requests(config: Partition) -> tuple[int, ...]:
    bad = []
    for number, text in enumerate(config.caucased.csr_to_sign, 1):
        try:
            certificates.request(text)
        except CertificateError:
            bad.append(number)
    return tuple(bad)


# ---- servers


def seen(looks: Sequence[Look]) -> tuple[Shown, ...]:
    """What each server shows."""
    with ThreadPoolExecutor(max(len(looks), 1)) as pool:
        return tuple(pool.map(_look, looks))


def _look(look: Look) -> Shown:
    try:
        return Shown(look.who, look.look())
    except ssl.SSLError as error:
        return Shown(look.who, error=error.reason or str(error))
    except OSError as error:
        return Shown(look.who, error=str(error), down=True)


def shown(host: str, port: int) -> str:
    """The fingerprint of the certificate that an HTTPS server shows. Raises OSError."""
    return _of(ssl.get_server_certificate((host, port), timeout=TIMEOUT))
