# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `neo-tls`: the certificate requests of a NEO partition that wait for a person, and a cluster's own URLs."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from slapos.recipe.erp5.neo import tls
from slapos.recipe.erp5.neo.terms import TERMS
from slapos.recipe.erp5.tls import template, waiting
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.words import bracketed


class Recipe:
    """Options in: `folder` (srv/tls), `external-caucased-url` (of another authority, or empty), and `ip` (the addresses
    of a cluster's partition, one a line; empty for a node's, which has one certificate and no address in it); a
    cluster's has its authority's `port` and the `secret`, too.

    Options out, set while the section is initialised: `requests` (PEM), what somebody is to approve at that authority,
    or empty; of a cluster's, `url` (of the authority), `certificate-url` (with the secret; empty where we cannot sign),
    and `of-node`, the parameter `ssl` of its nodes. Files are written when the part is installed; what is there is
    never replaced, nor removed.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.folder, self.ips = Path(options["folder"]), options["ip"].split()
        where, external = Files(self.folder), options["external-caucased-url"].rstrip("/")
        server = {where.server: template.of_server(TERMS.server_name, self.ips)} if self.ips else {}
        asked = server | {where.client: template.client(TERMS)} if external else {}
        options["requests"], self.new = waiting.prepare(asked)
        if self.ips:
            url = external or f"http://{bracketed(self.ips[0])}:{options['port']}"
            options["url"], options["certificate-url"] = url, "" if external else tls.url(url, options["secret"])
            options["of-node"] = {"caucased-url": url, "secret": "" if external else options["secret"]}

    def install(self) -> tuple[str, ...]:
        waiting.write(self.new)
        return ()

    update = install
