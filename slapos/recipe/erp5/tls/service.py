# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service gives so that its certificates are renewed, loaded, looked at and revoked: its plug."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.partition import Partition


@dataclass(frozen=True)
class Server:
    """A server that is told to read ca.pem, crl.pem and server.pem anew: `load` says whether it was there to be told.

    `load` raises Error when the server refuses them. `name` is what is noted about it.
    """

    name: str
    load: Callable[[], bool]


@dataclass(frozen=True)
class Look:
    """A look at the certificate that the server `who` shows to a new connection: returns its fingerprint.

    Raises ssl.SSLError when it shows none, any other OSError when it does not answer.
    """

    who: str
    look: Callable[[], str]


class Service(Protocol):
    """One service in one partition."""

    @property
    def config(self) -> Partition: ...

    def follows(self) -> bool:
        """Whether another partition's authority has signed for us, or should: Files(config.tls).upstream is in use."""

    def givers(self) -> Sequence[Giver]:
        """Where such a certificate can be had, the best first; none where the parameters name nobody."""

    def servers(self) -> Sequence[Server]:
        """What reads the certificates; one that refuses them keeps those behind it from being told."""

    def looks(self) -> Sequence[Look]:
        """What shows a certificate."""

    def shut_out(self) -> str:
        """End the connections that were made before a revocation. Returns the sentence that says so. Raises Error."""
