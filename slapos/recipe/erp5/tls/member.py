# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a certificate of another partition's authority fresh: its lists, its renewal, and a new one when it is lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import authority, certificates, join, template
from slapos.recipe.erp5.tls.authority import Trust
from slapos.recipe.erp5.tls.certificates import RENEW_UNDER
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.partition import Terms
from slapos.recipe.erp5.tls.template import Template

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


@dataclass(frozen=True)
class Member:
    """The files `where` of another's authority, which are called `name` and ours by `givers`, the best first."""

    where: Files
    name: str
    terms: Terms
    givers: Callable[[], Sequence[Giver]]
    now: datetime

    def keep(self) -> None:
        """Do what is due. Raises Error; Pending while a request waits for a person."""
        url, kind = join.record(self.where).get("caucased-url", ""), template.client(self.terms)
        try:
            old, text = join.read_trust(self.where), join.read(self.where.client)
        except CertificateError as error:
            self._join_again(str(error))
            return
        if not url:
            self._join_again("nothing says whose it is")
            return
        try:
            known = authority.trust(url, old.authorities, old.lists, self.now)
        except CertificateError as error:
            if isinstance(error.__cause__, OSError | HTTPException) or not self._with_endpoint():
                raise
            self._join_again(str(error))  # another authority is there than the one that we know
            return
        replace(self.where.ca, known.ca)
        replace(self.where.crl, known.crl)
        reason = due(text, kind, known, self.now)
        if reason and not is_renewable(text, kind, known, self.now):
            self._join_again(reason)
        elif reason:
            new = authority.renew(url, certificates.pair(text))
            authority.check(new, kind, known, self.now)
            process.write_atomically(self.where.client, new)
            self._log(reason)

    def _join_again(self, reason: str) -> None:
        givers = self.givers()
        if not givers:
            raise CertificateError(
                f"the certificate of the {self.terms.giver}'s authority cannot be used ({reason}), and "
                f"{self.terms.no_parameter}"
            )
        for number, giver in enumerate(givers, 1):
            try:
                join.join(giver)
                break
            except CertificateError:
                if number == len(givers):
                    raise
        self._log(reason)

    def _log(self, reason: str) -> None:
        process.log(f"{self.name}: a new certificate, as {reason}")

    def _with_endpoint(self) -> bool:
        return any(giver.endpoint for giver in self.givers())


def replace(path: Path, text: str) -> None:
    """Write a file where it differs."""
    if not path.exists() or path.read_text() != text:
        process.write_atomically(path, text)
        process.log(f"{path.name}: changed")
