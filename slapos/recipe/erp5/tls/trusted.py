# SPDX-License-Identifier: GPL-2.0-or-later
"""Other authorities that a service trusts beside its own, each a file of `srv/tls/trusted`, and one file of all.

Each authority is one of a partition that proved to know the secret (introduction.py). It is never needed for anything
of our own: that it is gone does no harm but that its lists end, and with them what it signed.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import authority, certificates, files
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.files import Files

MOST = 32
"""Authorities that are trusted besides: more must be somebody's mistake."""


@dataclass(frozen=True)
class Other:
    """An authority: where it is asked, its certificates and its revocation lists (PEM)."""

    url: str
    ca: str
    crl: str

    @property
    def trust(self) -> Trust:
        return Trust(self.ca, self.crl)


def folder(where: Files) -> Path:
    return where.folder / "trusted"


def bundle_file(where: Files) -> Path:
    """All that is trusted, as one file for who reads no other (bundle())."""
    return where.folder / "trusted.pem"


def checked(url: object, ca: object, crl: object, now: datetime) -> Other:
    """What somebody says of an authority, when it is one that is valid now, with its lists. Raises CertificateError."""
    if not (isinstance(url, str) and isinstance(ca, str) and isinstance(crl, str)):
        raise CertificateError("it is no authority's URL, certificates and revocation lists")
    if not url.startswith(("http://", "https://")) or len(url) > 200 or not (url + ca + crl).isascii():
        raise CertificateError("its URL is none, or something of it is not ASCII")
    each = [files.text(one) for one in certificates.certificates(ca)]
    known = authority.newest(each, certificates.revocation_lists(crl), now)
    return Other(url, known.ca, known.crl)


# ---- on disk


def load(where: Files) -> tuple[Other, ...]:
    """All of them, in a steady order. Raises CertificateError when one cannot be read."""
    found = []
    for path in sorted(folder(where).glob("*.json")):
        try:
            found.append(Other(**json.loads(path.read_text())))
        except (ValueError, TypeError) as error:
            raise CertificateError(f"{path} cannot be read, expected an authority: remove it") from error
    return tuple(found)


def save(where: Files, one: Other) -> bool:
    """Trust an authority, in place of what was at its URL; whether that changes anything. Raises CertificateError."""
    path = _path(where, one.url)
    text = json.dumps(asdict(one), indent=2) + "\n"
    if path.exists() and path.read_text() == text:
        return False
    folder(where).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() and len(list(folder(where).glob("*.json"))) >= MOST:
        raise CertificateError(
            f"{MOST} authorities are trusted already, expected fewer: remove some of {folder(where)}"
        )
    process.write_atomically(path, text)
    return True


def replace(where: Files, all_of_them: Iterable[Other]) -> None:
    """Trust these, and no others."""
    wanted = {_path(where, one.url): one for one in all_of_them}
    for path in folder(where).glob("*.json"):
        if path not in wanted:
            path.unlink()
            process.log(f"{path.name} is not trusted any more")
    for one in wanted.values():
        if save(where, one):
            process.log(f"the authority {one.url} is trusted, as it is now")


def _path(where: Files, url: str) -> Path:
    return folder(where) / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"


def refresh(where: Files, now: datetime) -> None:
    """Fetch each one's present certificates and lists. One that does not answer stays as it is, which is no failure."""
    for one in load(where):
        try:
            known = authority.trust(one.url, one.trust.authorities, one.trust.lists, now)
        except CertificateError as error:
            process.log(f"warning: {error}")
            continue
        if save(where, Other(one.url, known.ca, known.crl)):
            process.log(f"the authority {one.url} has something new")


# ---- for who reads one file


def bundle(ours: Trust, others: Iterable[Other], now: datetime) -> str:
    """The certificates of all authorities that are valid, and their lists (PEM).

    Who finds a list there wants one of each authority, and lets nobody in by one that expired. With ours expired, our
    own nodes would lock each other out: then there are no lists, and what was revoked counts again.
    """
    expired = any(certificates.list_life_left(one, now) <= 0 for one in ours.lists)
    parts: dict[str, None] = {}
    for known in (ours, *(one.trust for one in others)):
        for one in known.authorities:
            lists = [each for each in known.lists if certificates.list_issuer(each, [one])]
            if certificates.is_authority(one, now) and lists:
                parts[files.text(one)] = None
                parts |= {} if expired else dict.fromkeys(map(files.text, lists))
    return "".join(parts)


def write_bundle(where: Files, ours: Trust, now: datetime) -> None:
    """Write the bundle of ours, and of all that is trusted besides, where it differs. Raises CertificateError."""
    text, path = bundle(ours, load(where), now), bundle_file(where)
    if not path.exists() or path.read_text() != text:
        process.write_atomically(path, text)
        process.log(f"{path.name}: changed")
