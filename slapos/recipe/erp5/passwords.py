# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords and tokens that are made, and not chosen by anybody."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits


def make_password(length: int) -> str:
    """Return random letters and digits, which need no quoting anywhere."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def make_token() -> str:
    """Return 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)
