# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords that are made, and not chosen by anybody."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits


def make_password(length: int) -> str:
    """Return random letters and digits, which need no quoting anywhere."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
