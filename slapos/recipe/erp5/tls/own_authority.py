# SPDX-License-Identifier: GPL-2.0-or-later
"""The partition's own certificate authority: caucase's server under our conditions.

Before it serves for the first time it makes the user who signs, in its own database and with no network: nobody can be
quicker, and caucased approves nothing by itself.
"""

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from caucase import ca, http, storage, wsgi
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import certificates, files, own
from slapos.recipe.erp5.tls.exchange import Wsgi
from slapos.recipe.erp5.tls.partition import Partition

VALIDITY_DAYS = 93
"""caucase's own: renewed under a third of it; an authority lives four times that, a revocation list 30 days."""
LARGEST_REQUEST = 32 << 10
"""Bytes of anything that anybody may send; caucase's own limit is 10 MB, of which it keeps each one for ever."""
MOST_CLIENTS = 64
"""Connections from other addresses at the same time; more are closed at once."""
SILENCE = 30.0
"""Seconds that a client of caucased may say nothing."""
MOST_PENDING = 200
NEVER = 60.0
"""Seconds between two looks whether a server is to end by itself, which it never is."""


# ---- the authority's database, before it serves


def prepare(config: Partition, now: datetime) -> None:
    """Make the authorities, and the signing user's key with its certificate where it is missing or soon to expire.

    Also writes down our authority's certificates, which is how the partition's programs know it.
    """
    folder = own.folder(config)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    services = _authority(config)
    process.write_atomically(own.ca(config), "".join(files.text(one) for one in services.getCACertificateList()))
    users = _users_authority(config)
    if is_due(config, now, users.getCACertificateList()):
        process.log("making the key and certificate of the user who signs")
        process.write_atomically(own.user(config), _new_user(users))


def is_due(config: Partition, now: datetime, authorities: Sequence[x509.Certificate] | None = None) -> bool:
    """Whether a new key and certificate for signing are needed: there are none, or not for much longer.

    With `authorities` also when none of these, the present ones of users, signed it.
    """
    try:
        pair = certificates.pair(own.user(config).read_text())
    except (FileNotFoundError, CertificateError):
        return True
    known = authorities is None or certificates.issuer(pair.certificate, authorities) is not None
    return not known or certificates.life_left(pair.certificate, now) < certificates.RENEW_UNDER


def _new_user(users: Any) -> str:
    key = files.new_key()
    subject = files.name("signer of this partition")
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    number = users.appendCertificateSigningRequest(files.text(asked).encode(), override_limits=True)
    users.createCertificate(number)
    return files.key_text(key) + users.getCertificate(number).decode()


def _authority(config: Partition) -> Any:
    """caucase's authority for services, made as its own server makes it, which takes what it finds."""
    return ca.CertificateAuthority(
        storage=storage.SQLite3Storage(db_path=str(own.database(config)), table_prefix="cas"),
        ca_subject_dict={"CN": f"Caucase CAS at {own.netloc(config)}"},
        crl_base_url=f"http://{own.netloc(config)}/cas/crl",
        crt_life_time=VALIDITY_DAYS,
        auto_sign_csr_amount=0,
        lock_auto_sign_csr_amount=True,
    )


def _users_authority(config: Partition) -> Any:
    """The same for users, who may sign."""
    kept = {"crt_keep_time": VALIDITY_DAYS, "crt_read_keep_time": VALIDITY_DAYS, "enforce_unique_key_id": True}
    return ca.UserCertificateAuthority(
        storage=storage.SQLite3Storage(db_path=str(own.database(config)), table_prefix="cau", **kept),
        ca_subject_dict={"CN": f"Caucase CAU at {own.netloc(config)}"},
        crt_life_time=VALIDITY_DAYS,
        auto_sign_csr_amount=0,
        lock_auto_sign_csr_amount=True,
    )


# ---- serving


def serve(config: Partition, until: Callable[[datetime], datetime], around: Callable[[Wsgi], Wsgi] | None) -> None:
    """Run caucased in this process, until a signal. Raises OSError when an address is in use.

    `until` is what its main thread waits with for a moment; it returns the present. `around` may add to what is served.
    """
    http.ThreadingWSGIServer = Server
    if around:
        http.Application = lambda **options: around(wsgi.Application(**options))
    wsgi.MAX_BODY_LENGTH = LARGEST_REQUEST
    with process.attempting(f"serve as a certificate authority at {own.netloc(config)}"):
        http.main(
            argv=options(config, [ip for ip in own.addresses(config) if exists(ip)]),
            until=until,
            log_file=Log(),
            error_file=sys.stderr,
        )


def options(config: Partition, addresses: Sequence[str]) -> list[str]:
    """caucased's command line, to listen on `addresses`."""
    folder = own.folder(config)
    return [
        f"--db={own.database(config)}",
        f"--server-key={folder / 'server.key.pem'}",
        f"--cors-key-store={folder / 'cors.key'}",
        f"--netloc={own.netloc(config)}",
        *(f"--bind={address}" for address in addresses),
        f"--service-crt-validity={VALIDITY_DAYS}",
        f"--user-crt-validity={VALIDITY_DAYS}",
        f"--service-max-csr={MOST_PENDING}",
        "--service-auto-approve-count=0",
        "--user-auto-approve-count=0",
        "--lock-auto-approve-count",
    ]


def exists(ip: str) -> bool:
    """Whether this machine has the address: caucased, unlike most servers, ends when one of several is not there."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            process.log(f"not listening on {ip}: {error.strerror}")
            return False
    return True


class Server(http.ThreadingWSGIServer):
    """caucase's server, in which no client can stop the others by saying nothing.

    caucase 0.9.17 makes the TLS handshake in the thread that accepts connections, with no limit of time: one client
    that connects and waits ends signing for everybody.
    """

    request_queue_size = 64
    clients = threading.BoundedSemaphore(MOST_CLIENTS)

    def process_request(self, request, client_address):
        # Our own programs, which sign and renew, always get in.
        if self._is_ours(request, client_address) or self.clients.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        ours = self._is_ours(request, client_address)
        try:
            super().process_request_thread(request, client_address)
        finally:
            if not ours:
                self.clients.release()

    @staticmethod
    def _is_ours(request, client_address) -> bool:
        return request.getsockname()[0] == client_address[0]

    def get_request(self):
        if isinstance(self.socket, ssl.SSLSocket):
            # The handshake follows with the first read, in the client's own thread.
            self.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
        connection, address = super().get_request()
        connection.settimeout(SILENCE)
        return connection, address

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # clients come and go, and some never mean it
            super().handle_error(request, client_address)

    def serve_forever(self, poll_interval=NEVER):
        super().serve_forever(poll_interval)


class Log:
    """Where caucased writes a line for each request: those that only read are left out, as replicas ask all day."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        if '"GET ' not in text and text.strip():
            process.log(text.strip())

    def flush(self) -> None:
        """Nothing is kept back."""
