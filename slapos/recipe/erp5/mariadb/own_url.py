# SPDX-License-Identifier: GPL-2.0-or-later
"""Where other instances reach this one: what it publishes, without any secret."""

from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.words import bracketed


def host(config: Config) -> str:
    """The address that is published."""
    return config.control_host


def address(config: Config) -> str:
    """The server's `host:port`."""
    return f"{bracketed(host(config))}:{config.network.port}"


def primary(config: Config) -> str:
    """replication-primary-url without the account."""
    tls = bool(config.network.ipv6) or config.replicas_use_tls
    endpoint = f"https://{bracketed(host(config))}:{config.network.backup_port}"
    with_endpoint = tls and not config.caucased.external_caucased_url
    where = Primary(host(config), config.network.port, "", "", endpoint if with_endpoint else "")
    return urls.without_account(where)


def addresses(config: Config) -> tuple[str, ...]:
    """Each `host:port` at which the server may be followed."""
    hosts = (one for one in (config.network.ipv6, config.network.ipv4) if one)
    return tuple(f"{bracketed(one)}:{config.network.port}" for one in hosts)


def control(config: Config) -> str:
    """The base of the control page, such as https://[::1]:26000."""
    return f"https://{bracketed(host(config))}:{config.network.control_port}"
