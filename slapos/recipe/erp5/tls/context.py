# SPDX-License-Identifier: GPL-2.0-or-later
"""How our own clients use TLS: they prove who they are, and want the other side to prove it, revocations included."""

import ssl

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.partition import Terms


def client_context(files: Files, terms: Terms) -> ssl.SSLContext:
    """A context that presents `files.client` and accepts what `files.ca` has signed and `files.crl` has not revoked.

    Raises ConfigurationError when a file is missing or is no PEM file of its kind.
    """
    try:
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_verify_locations(cafile=str(files.crl))
        context.load_cert_chain(str(files.client))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the certificates in {files.folder} cannot be used ({error.strerror or type(error).__name__}), expected "
            f"ca.pem, crl.pem and client.pem: {terms.control} makes them, read the promise {terms.promise}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def anonymous_context(files: Files) -> ssl.SSLContext | None:
    """A context that presents `files.client` to whoever answers; None when there is no such certificate.

    For asking who a server is, where nothing is said that matters.
    """
    context = unverified()
    try:
        context.load_cert_chain(str(files.client))
    except (OSError, ssl.SSLError):
        return None
    return context


def unverified() -> ssl.SSLContext:
    """A context that takes whoever answers for the right one; nothing that matters may depend on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
