# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions of the run-time programs: each message is one sentence that an operator can act on."""


class Error(Exception):
    """Anything that a program of ours reports and ends with status 1; `main()` alone turns it into an exit code."""


class ConfigurationError(Error):
    """The partition's own JSON file, or a parameter in it, cannot be used."""


class CommandError(Error):
    """A command that we ran failed; the message holds what was attempted and the command's last words."""


class ServerError(Error):
    """A database server did not start, did not answer, or refused what it was asked."""


class BackupError(Error):
    """A backup was not made, or one that exists cannot be trusted."""


class Busy(Error):
    """Somebody else is at it: another run of the same program holds the lock."""


class Refused(Error):
    """Nothing was changed, as a precondition of what was asked for does not hold."""


class CertificateError(Error):
    """A certificate, key or revocation list cannot be used, or an authority did not give one."""


class Unreachable(Error):
    """A server that we need does not answer, or breaks off: nothing but waiting and trying again helps."""
