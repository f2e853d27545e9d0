# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificate requests that wait for a person: each lies in one file with its key, beside its certificate."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import certificates, files, template
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.template import Template


def wanted(kinds: Mapping[Path, Template]) -> dict[Path, Template]:
    """Of the files whose certificates a person approves, those whose requests are to be approved now, and their kinds.

    What has a certificate already needs none, unless it asks for another one.
    """
    return {path: kind for path, kind in kinds.items() if Files.pending(path).exists() or is_open(path)}


def prepare(kinds: Mapping[Path, Template]) -> tuple[str, dict[Path, str]]:
    """The requests (PEM, one after the other) of wanted(kinds), and the files that have yet to be written for them."""
    new: dict[Path, str] = {}
    requests = []
    for path, kind in wanted(kinds).items():
        pending = Files.pending(path)
        request = kept(pending, kind)
        if not request:
            new[pending] = made(kind)
            request = request_of(new[pending])
        requests.append(request)
    return "".join(requests), new


def write(new: Mapping[Path, str]) -> None:
    """Write what prepare() made."""
    for path, content in new.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        process.write_atomically(path, content)


def is_open(path: Path) -> bool:
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
    content = made(kind)
    write({pending: content})
    return request_of(content)


def kept(pending: Path, kind: Template) -> str:
    """The request (PEM) in the file `pending`; empty when there is none that asks for just this."""
    with contextlib.suppress(FileNotFoundError, CertificateError):
        text = request_of(pending.read_text())
        asked = certificates.request(text)
        if certificates.common_name(asked) == kind.name and certificates.ips(asked) == kind.ips:
            return text
    return ""


def made(kind: Template) -> str:
    """What such a file holds: a new private key, and its request."""
    key = files.new_key()
    return files.key_text(key) + template.request(kind, key)


def request_of(content: str) -> str:
    """The request (PEM) in the text of such a file, empty when it has none."""
    return "".join(certificates.parts(content, "CERTIFICATE REQUEST")[-1:])


def key_of(pending: Path) -> str:
    """The private key (PEM) in the file of a request that waits."""
    return "".join(certificates.parts(pending.read_text(), "PRIVATE KEY"))
