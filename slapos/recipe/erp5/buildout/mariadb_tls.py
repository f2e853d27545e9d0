# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-tls`: placeholders for the certificates that the servers need, and requests to be published."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.mariadb import primary
from slapos.recipe.erp5.mariadb.terms import TERMS
from slapos.recipe.erp5.tls import files, template, waiting
from slapos.recipe.erp5.tls.files import Files


class Recipe:
    """Options in: `folder` (srv/tls), `ip` (addresses, one a line), `external-caucased-url` (of another authority, or
    empty) and `replication` (the translated parameter, or None).

    Option out, set while the section is initialised: `requests`, the certificate requests (PEM) that a person is to
    approve, or empty. Files are written when the part is installed; what is there is never replaced, nor removed.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.folder, self.ips = Path(options["folder"]), options["ip"].split()
        where = Files(self.folder)
        server = template.of_server(TERMS.server_name, self.ips)
        ours = {where.server: server, where.client: template.CLIENT} if options["external-caucased-url"] else {}
        upstream = where.upstream.client
        # A primary may say that it cannot sign: then the request waits already.
        by_hand = is_by_hand(options["replication"]) or Files.pending(upstream).exists()
        options["requests"], self.new = waiting.prepare(ours | ({upstream: template.CLIENT} if by_hand else {}))

    def install(self) -> tuple[str, ...]:
        files.ensure(self.folder, TERMS.server_name, self.ips)
        waiting.write(self.new)
        return ()

    update = install


def is_by_hand(replication: Mapping[str, Any] | None) -> bool:
    """Whether a replica's certificate is approved by a person, as its primary has no endpoint where it could be had."""
    if not replication or not replication["replicate-with-tls"] or not replication["caucased-url"]:
        return False
    return not primary.parse(replication["primary-url"]).endpoint
