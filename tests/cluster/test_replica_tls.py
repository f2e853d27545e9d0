# SPDX-License-Identifier: GPL-2.0-or-later
"""What passes between primary and replica over TLS cannot be read on the wire."""

from tests.cluster.replicas import Tap, carry_secret, replica


def test_nothing_is_to_be_read(node, source):
    with Tap(source) as tap, replica(node, "encrypted", source, "live", primary_url=tap.url) as copy:
        secret = carry_secret(source, copy)
        assert len(tap.seen) > 5000
        assert secret not in tap.seen
