# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-revoke-certificate: shuts out whoever has a certificate of our authority, connected or not."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError, ConfigurationError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import sql, sql_replication
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.tls import authority, certificates, join, renew
from slapos.recipe.erp5.tls.files import Files


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 it is revoked and in force, 1 it is not (one sentence on stderr), 75 another run is at it."""
    parser = argparse.ArgumentParser(prog="mariadb-revoke-certificate", description="Revoke a replica's certificate.")
    parser.add_argument("--config", required=True, help="the partition's etc/mariadb.json")
    parser.add_argument(
        "certificate", help="its serial number, as the log of mariadb-control has it, or a PEM file that holds it"
    )
    options = parser.parse_args(arguments)
    return process.program(lambda: revoke(configuration.load(options.config), options.certificate))


def revoke(config: Config, certificate: str) -> int:
    """Revoke it, have both servers know, and end the connections that were made before. Raises Error."""
    serial = serial_number(certificate)
    if config.caucased.external_caucased_url:
        raise ConfigurationError(
            f"the certificates are those of {config.caucased.external_caucased_url}, expected our own authority: have"
            f" it revoked there, serial number {serial}"
        )
    with process.step(f"revoke the certificate with serial number {serial}"):
        authority.revoke(config, serial)
    status = renew.one_at_a_time(config)
    if not certificates.is_listed(serial, join.read_trust(Files(config.tls)).lists):
        if status:
            return status
        raise CertificateError(f"{Files(config.tls).crl} does not list {serial}, expected it to: run this again")
    with sql.connect(config.defaults_file) as connection:
        count = sql_replication.disconnect_replicas(connection)
    if config.caucased.csr_to_sign:
        process.log(
            "warning: who is to be kept out must not be in caucased.csr-to-sign any more, or its key is signed again"
        )
    process.log(f"it is in force; {count} replicas were disconnected, and come back unless they have that certificate")
    return 0


def serial_number(certificate: str) -> int:
    """The number that was given, or of the certificate in the file that was. Raises ConfigurationError."""
    if certificate.isdecimal():
        return int(certificate)
    try:
        return certificates.certificates(Path(certificate).read_text())[0].serial_number
    except (OSError, ValueError, CertificateError) as error:
        raise ConfigurationError(
            f"{certificate} is neither a serial number nor a PEM file with a certificate: give one of the two"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
