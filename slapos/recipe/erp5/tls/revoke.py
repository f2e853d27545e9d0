# SPDX-License-Identifier: GPL-2.0-or-later
"""Shuts out whoever has a certificate of our authority, connected or not."""

from pathlib import Path

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import CertificateError, ConfigurationError
from slapos.recipe.erp5.tls import authority, certificates, join, renew
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.service import Service


def revoke(service: Service, certificate: str) -> int:
    """Revoke it, have the servers know, and end the connections that were made before. Raises Error.

    Returns a program's exit status: 0 it is revoked and in force, 1 it is not, 75 another run is at it.
    """
    config = service.config
    serial = serial_number(certificate)
    if config.caucased.external_caucased_url:
        raise ConfigurationError(
            f"the certificates are those of {config.caucased.external_caucased_url}, expected our own authority: have"
            f" it revoked there, serial number {serial}"
        )
    with process.step(f"revoke the certificate with serial number {serial}"):
        authority.revoke(config, serial)
    status = renew.one_at_a_time(service)
    if not certificates.is_listed(serial, join.read_trust(Files(config.tls)).lists):
        if status:
            return status
        raise CertificateError(f"{Files(config.tls).crl} does not list {serial}, expected it to: run this again")
    shut_out = service.shut_out()
    if config.caucased.csr_to_sign:
        process.log(
            "warning: who is to be kept out must not be in caucased.csr-to-sign any more, or its key is signed again"
        )
    process.log(f"it is in force; {shut_out}")
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
