# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificate requests that wait for a person: each lies in one file with its key, beside its certificate."""

import contextlib
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import certificates, files, template
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.template import Template


def wanted(where: Files, server: Template, external: bool, by_hand: bool) -> dict[Path, Template]:
    """The files whose requests a person is to approve, and what they ask for.

    `server`: what our servers' certificate says; `external`: our own certificates are another authority's; `by_hand`:
    ours as a replica is approved at the primary.
    What has a certificate already needs none, unless it asks for another one.
    """
    ours = {where.server: server, where.client: template.CLIENT} if external else {}
    upstream = where.upstream.client
    # A primary may say that it cannot sign: then the request waits already.
    theirs = {upstream: template.CLIENT} if by_hand or Files.pending(upstream).exists() else {}
    return {path: kind for path, kind in (ours | theirs).items() if Files.pending(path).exists() or _is_open(path)}


def _is_open(path: Path) -> bool:
    """Whether there is no certificate at `path` but a placeholder at most."""
    try:
        return certificates.is_placeholder(certificates.pair(path.read_text()).certificate)
    except (OSError, CertificateError):
        return True


def request(pending: Path, kind: Template) -> str:
    """The request (PEM) in the file `pending`, made with a new key when it is missing, cut, or of another kind."""
    found = kept(pending, kind)
    if found:
        return found
    pending.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = new(kind)
    process.write_atomically(pending, content)
    return request_of(content)


def kept(pending: Path, kind: Template) -> str:
    """The request (PEM) in the file `pending`; empty when there is none that asks for just this."""
    with contextlib.suppress(FileNotFoundError, CertificateError):
        text = request_of(pending.read_text())
        asked = certificates.request(text)
        if certificates.common_name(asked) == kind.name and certificates.ips(asked) == kind.ips:
            return text
    return ""


def new(kind: Template) -> str:
    """What such a file holds: a new private key, and its request."""
    key = files.new_key()
    return files.key_text(key) + template.request(kind, key)


def request_of(content: str) -> str:
    """The request (PEM) in the text of such a file, empty when it has none."""
    return "".join(certificates.parts(content, "CERTIFICATE REQUEST")[-1:])


def key_of(pending: Path) -> str:
    """The private key (PEM) in the file of a request that waits."""
    return "".join(certificates.parts(pending.read_text(), "PRIVATE KEY"))
