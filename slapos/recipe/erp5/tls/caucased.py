# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-caucased: the partition's own certificate authority, caucase's server under our conditions.

Before it serves for the first time it makes the account that signs, in its own database and with no network: nobody can
be quicker, and caucased approves nothing by itself. With `caucased.external-caucased-url` it only waits for a change of
the configuration, as a service that ends would be reported.
"""

import argparse
import contextlib
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError, ConfigurationError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import certificates, files, own

VALIDITY_DAYS = 93
"""caucase's own: renewed under a third of it; an authority lives four times that, a revocation list 30 days."""
LOOK_EVERY = 30.0
"""Seconds after which a changed configuration has been noticed at the latest."""
SILENCE = 30.0
"""Seconds that a client of caucased may say nothing."""
MOST_PENDING = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 it cannot serve (one sentence on stderr)."""
    parser = argparse.ArgumentParser(prog="mariadb-caucased", description="Run the partition's certificate authority.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    path = Path(parser.parse_args(arguments).config).absolute()
    return process.program(lambda: run(path))


def run(path: Path) -> None:
    """Be the authority that the configuration at `path` asks for, or none. Raises Error."""
    os.umask(0o077)
    config = configuration.load(path)
    watch = Watch(path, config)
    if config.caucased.external_url:
        process.log(f"no authority of our own, as {config.caucased.external_url} is used")
        _end_at_once()
        while True:
            watch.wait(LOOK_EVERY)
    with process.step("prepare the certificate authority"):
        prepare(config, times.now())
    serve(config, watch)


def _end_at_once() -> None:
    """Nothing has to be cleaned up, not even SQLite's transactions; caucase's own end would wait for its clients."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))


# ---- the authority's database, before it serves


def prepare(config: Config, now: datetime) -> None:
    """Make the authorities, and the signing user's key with its certificate where it is missing or soon to expire.

    Also writes down our authority's certificates, which is how the partition's programs know it.
    """
    folder = own.folder(config)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    services = _authority(config)
    process.write_atomically(own.ca(config), "".join(files.text(one) for one in services.getCACertificateList()))
    users = _users_authority(config)
    if user_is_due(own.user(config), users.getCACertificateList(), now):
        process.log("making the key and certificate of the user who signs")
        process.write_atomically(own.user(config), _new_user(users))


def user_is_due(path: Path, authorities: Sequence[x509.Certificate], now: datetime) -> bool:
    """Whether a new key and certificate for signing are needed, as there are none or not for much longer."""
    try:
        pair = certificates.pair(path.read_text())
    except (FileNotFoundError, CertificateError):
        return True
    known = certificates.issuer(pair.certificate, authorities) is not None
    return not known or certificates.life_left(pair.certificate, now) < certificates.RENEW_UNDER


def _new_user(users: Any) -> str:
    key = files.new_key()
    subject = files.name("signer of this partition")
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    number = users.appendCertificateSigningRequest(files.text(asked).encode(), override_limits=True)
    users.createCertificate(number)
    return files.key_text(key) + users.getCertificate(number).decode()


def _authority(config: Config) -> Any:
    """caucase's authority for services, made as its own server makes it, which takes what it finds."""
    from caucase import ca, storage

    return ca.CertificateAuthority(
        storage=storage.SQLite3Storage(db_path=str(own.database(config)), table_prefix="cas"),
        ca_subject_dict={"CN": f"Caucase CAS at {own.netloc(config)}"},
        crl_base_url=f"http://{own.netloc(config)}/cas/crl",
        crt_life_time=VALIDITY_DAYS,
        auto_sign_csr_amount=0,
        lock_auto_sign_csr_amount=True,
    )


def _users_authority(config: Config) -> Any:
    """The same for users, who may sign."""
    from caucase import ca, storage

    kept = {"crt_keep_time": VALIDITY_DAYS, "crt_read_keep_time": VALIDITY_DAYS, "enforce_unique_key_id": True}
    return ca.UserCertificateAuthority(
        storage=storage.SQLite3Storage(db_path=str(own.database(config)), table_prefix="cau", **kept),
        ca_subject_dict={"CN": f"Caucase CAU at {own.netloc(config)}"},
        crt_life_time=VALIDITY_DAYS,
        auto_sign_csr_amount=0,
        lock_auto_sign_csr_amount=True,
    )


# ---- serving


def serve(config: Config, watch: "Watch") -> None:
    """Run caucased in this process, until a signal. Raises OSError when an address is in use."""
    from caucase import http

    http.ThreadingWSGIServer = _server(http)
    _end_at_once()
    with process.attempting(f"serve as a certificate authority at {own.netloc(config)}"):
        http.main(
            argv=options(config, [ip for ip in own.addresses(config) if exists(ip)]),
            until=watch.until,
            log_file=Log(),
            error_file=sys.stderr,
        )


def options(config: Config, addresses: Sequence[str]) -> list[str]:
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
    """Whether this machine has the address: caucased, unlike MariaDB, ends when one of several is not there."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            process.log(f"not listening on {ip}: {error.strerror}")
            return False
    return True


def _server(http: Any) -> type:
    """caucase's server, in which no client can stop the others by saying nothing.

    caucase 0.9.17 makes the TLS handshake in the thread that accepts connections, with no limit of time: one client
    that connects and waits ends signing for everybody.
    """

    class Server(http.ThreadingWSGIServer):
        request_queue_size = 64

        def get_request(self):
            if isinstance(self.socket, ssl.SSLSocket):
                # The handshake follows with the first read, in the client's own thread.
                self.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
            connection, address = super().get_request()
            connection.settimeout(SILENCE)
            return connection, address

        def serve_forever(self, poll_interval=LOOK_EVERY):  # only for the end of the loop, which a signal is here
            super().serve_forever(poll_interval)

    return Server


class Log:
    """Where caucased writes a line for each request: those that only read are left out, as replicas ask all day."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        if '"GET ' not in text and text.strip():
            process.log(text.strip())

    def flush(self) -> None:
        """Nothing is kept back."""


class Watch:
    """Begins the program anew, under the same process number, when it has to read anew what it read at its start."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config

    def until(self, deadline: datetime) -> datetime:
        """What caucased's main loop waits with: returns the present when `deadline` has passed."""
        while (now := times.now()) < deadline:
            self.wait(min(LOOK_EVERY, (deadline - now).total_seconds()))
        return now

    def wait(self, seconds: float) -> None:
        """Wait, then look."""
        time.sleep(seconds)
        reason = self.reason(times.now())
        if reason:
            process.log(f"beginning anew: {reason}")
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def reason(self, now: datetime) -> str:
        """Why to begin anew, empty when there is no reason; a configuration that cannot be read is none."""
        with contextlib.suppress(ConfigurationError):
            new = configuration.load(self.path)
            if (new.caucased.external_url, new.network) != (self.config.caucased.external_url, self.config.network):
                return "the configuration has changed"
        if self.config.caucased.external_url:
            return ""
        try:
            certificate = certificates.pair(own.user(self.config).read_text()).certificate
        except (OSError, CertificateError):
            return "the signing user's certificate is gone"
        due = certificates.life_left(certificate, now) < certificates.RENEW_UNDER
        return "the signing user's certificate is to be renewed" if due else ""


if __name__ == "__main__":
    raise SystemExit(main())
