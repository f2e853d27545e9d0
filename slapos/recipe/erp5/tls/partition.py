# SPDX-License-Identifier: GPL-2.0-or-later
"""What certificates need to know of a partition, whatever service it has: each service's configuration has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CLIENT_NAME = "slapos-replication-client"
"""The common name of clients that replicate, which is their whole subject."""


@dataclass(frozen=True)
class Caucased:
    """The parameter `caucased`: `external_caucased_url` replaces our own authority (empty: it does not).

    It is what it was when the database was created; `external_differs` says that the parameter is another one now.
    `csr_to_sign` are PEM certificate requests of replicas that were approved by hand.
    """

    external_caucased_url: str
    csr_to_sign: tuple[str, ...]
    external_differs: bool = False


@dataclass(frozen=True)
class Terms:
    """What a service calls things: its own words in our sentences, and the names that certificates have.

    `giver` is who signs for others, `asker` for whom, and `secret` what these have to know.
    """

    authority: str  # the service that is our own authority
    control: str  # the service that renews
    promise: str  # the promise about certificates
    server_name: str  # the common name of its servers' certificates
    client_name: str  # that of what askers are given
    client_serves: bool  # whether who has that is a server too
    path: str  # where its endpoint has the exchange of certificates
    giver: str
    asker: str
    secret: str
    endpoint: str  # what is expected at an endpoint, and the remedy
    proof: str  # what is expected of who is refused, and the remedy
    no_endpoint: str  # a whole sentence
    no_parameter: str  # why nobody can be asked for another certificate, and the remedy
    by_hand: str  # what an asker's administrator can do for a request that waits
    external: str  # the same where the giver's authority is another one, at which the giver cannot sign


class Network(Protocol):
    """Addresses (`ipv6` may be empty) and ports; the authority takes the port after `caucased_port` too."""

    @property
    def ipv4(self) -> str: ...
    @property
    def ipv6(self) -> str: ...
    @property
    def caucased_port(self) -> int: ...


class Partition(Protocol):
    """A partition's configuration."""

    def path(self, *names: str) -> Path:
        """A file of the partition."""

    @property
    def network(self) -> Network: ...
    @property
    def caucased(self) -> Caucased: ...
    @property
    def terms(self) -> Terms: ...

    @property
    def tls(self) -> Path:
        """Keys, certificates, authorities and revocation lists (files.py)."""

    @property
    def scheduler_state(self) -> Path:
        """Where the scheduler writes how its jobs went (control/state.py)."""

    @property
    def certificate_secret(self) -> str:
        """What who wants a certificate of our authority has to prove to know; it has to be random."""
