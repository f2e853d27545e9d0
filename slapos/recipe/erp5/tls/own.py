# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the partition's own certificate authority is: its addresses, and its files in `srv/caucased` (mode 0700)."""

import ipaddress
from pathlib import Path

from slapos.recipe.erp5.tls.partition import Partition
from slapos.recipe.erp5.words import bracketed


def folder(config: Partition) -> Path:
    """Where the authority keeps everything."""
    return config.path("srv", "caucased")


def database(config: Partition) -> Path:
    """caucased's, with its private keys."""
    return folder(config) / "caucase.sqlite"


def user(config: Partition) -> Path:
    """Key and certificate of the user who signs: whoever has them, and the port, is the authority."""
    return folder(config) / "user.pem"


def ca(config: Partition) -> Path:
    """The authority's certificates as they were when it last started, written before it served anybody."""
    return folder(config) / "ca.pem"


def addresses(config: Partition) -> list[str]:
    """The IP addresses of the partition in their usual form, IPv6 first: the first one is in the authority's URL."""
    return [str(ipaddress.ip_address(ip)) for ip in (config.network.ipv6, config.network.ipv4) if ip]


def netloc(config: Partition, ip: str = "") -> str:
    """Address and port of the authority, as URLs have them: at the address `ip`, by default the first."""
    return f"{bracketed(ip or addresses(config)[0])}:{config.network.caucased_port}"


def contact(config: Partition) -> str:
    """The URL at which the partition's programs ask the authority: our own one at the IPv4 address, always there."""
    return url(config, config.network.ipv4)


def url(config: Partition, ip: str = "") -> str:
    """The URL of the authority that is used, our own (at the address `ip` of ours) or an external one."""
    return config.caucased.external_caucased_url.rstrip("/") or f"http://{netloc(config, ip)}"
