# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks each address of a partition's Zopes for a page, and notes who answered: Zope, or its standby supervisor."""

import http.client
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slapos.recipe.erp5.zeo import status
from slapos.recipe.erp5.zope.config import Config, Instance
from slapos.recipe.erp5.zope.standby_decide import SERVING

TIMEOUT = 10.0
"""Seconds; slapos ends a promise after 20."""


@dataclass(frozen=True)
class Answer:
    """`state` is what the standby supervisor says of itself, "" when it was Zope; `error` why nobody answered."""

    name: str
    address: str
    state: str
    error: str


def ask(zope: Instance, timeout: float = TIMEOUT) -> Answer:
    """Ask one of them; any page is an answer. Raises nothing."""
    connection = http.client.HTTPConnection(zope.host, zope.port, timeout=timeout)
    try:
        connection.request("HEAD", "/")
        state = connection.getresponse().getheader("X-Zope-State") or ""
        return Answer(zope.name, zope.address, state, "")
    except TimeoutError:
        return Answer(zope.name, zope.address, "", f"nothing within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Answer(zope.name, zope.address, "", str(error) or type(error).__name__)
    finally:
        connection.close()


def ask_all(config: Config, states: Mapping[str, str] | None = None) -> Sequence[Answer]:
    """All at once, in their order; with the `states` that their supervisor tells, only those which serve."""
    zopes = [zope for zope in config.zopes if states is None or states.get(zope.name) == SERVING]
    with ThreadPoolExecutor(max_workers=max(len(zopes), 1)) as pool:
        return list(pool.map(ask, zopes))


def silence_of_zeo(config: Config) -> str:
    """Why the ZEO server does not answer; empty when it does, or the database is no ZEO's."""
    if not config.zeo:
        return ""
    host, _, port = config.zeo.address.rpartition(":")
    return status.silence(host.strip("[]"), int(port))
