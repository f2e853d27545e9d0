# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `mariadb-urls`: what a MariaDB instance publishes for its replicas, and for who looks after it."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from slapos.recipe.erp5.control import token
from slapos.recipe.erp5.mariadb.primary import Primary, url
from slapos.recipe.erp5.words import bracketed


class Recipe:
    """Options in: `configuration` (the parameters), `authority` (an external one's URL, or empty), `ipv4`, `ipv6`
    (empty without), `port`, `backup-port`, `caucased-port`, `user` and `password` of the replication account, `token`,
    `control-port` and `control-token` of the control page.

    Options out, all of them texts: `primary`, `bootstrap`, `mariabackup` (empty without physical backups), `caucased`,
    `takeover` and `monitor`.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        options.update(urls(options["configuration"], options))

    def install(self) -> tuple[str, ...]:
        return ()

    update = install


def urls(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Where replicas find everything: on the public IPv6 when there is one, always with TLS, else on the IPv4."""
    host = values["ipv6"] or values["ipv4"]
    tls = bool(values["ipv6"]) or parameters["replicas-use-tls"]
    base = f"{'https' if tls else 'http'}://{bracketed(host)}:{values['backup-port']}"
    endpoint = base if tls and not values["authority"] else ""  # where we cannot sign nobody need ask
    primary = Primary(host, int(values["port"]), values["user"], values["password"], endpoint)
    bootstrap = f"{base}/{values['token']}/"
    own = f"http://{bracketed(host)}:{values['caucased-port']}"
    return {
        "primary": url(primary),
        "bootstrap": bootstrap,
        "mariabackup": bootstrap if parameters["backup"]["physical"]["enable"] else "",
        "caucased": values["authority"] or own,
        "takeover": token.takeover_url(host, int(values["control-port"]), values["control-token"]),
        "monitor": token.monitor_url(host, int(values["control-port"]), values["control-token"]),
    }
