# SPDX-License-Identifier: GPL-2.0-or-later
"""How sizes, times and addresses are written."""

from datetime import timedelta

import pytest

from slapos.recipe.erp5 import words

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * MIB, "3.0 MiB"), (5000 * MIB, "4.9 GiB")],
)
def test_sizes_for_people(size, text):
    assert words.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 days")],
)
def test_duration(seconds, text):
    assert words.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("host", "text"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("host", "host")])
def test_an_address_in_a_url(host, text):
    assert words.bracketed(host) == text
