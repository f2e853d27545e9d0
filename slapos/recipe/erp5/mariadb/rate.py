# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds a stream back to so many bytes a second (`backup.max-rate`), so that the server's own clients keep the disk."""

import time
from collections.abc import Callable

BURST = 1.0
"""Seconds' worth of bytes that may pass at once after a pause."""


class Bucket:
    """A token bucket without a clock of its own: `rate` bytes a second, at most BURST seconds' worth saved up."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate, self.saved, self.last = rate, 0.0, now

    def take(self, size: int, now: float) -> float:
        """How many seconds to wait before the next bytes, now that `size` bytes have passed."""
        self.saved = min(self.saved + (now - self.last) * self.rate, self.rate * BURST) - size
        self.last = now
        return max(-self.saved / self.rate, 0.0)


def limiter(rate: int) -> Callable[[int], None]:
    """A function to call with the size of each piece that has passed; it waits as long as `rate` wants (0: never)."""
    if not rate:
        return lambda size: None
    bucket = Bucket(rate, time.monotonic())
    return lambda size: time.sleep(bucket.take(size, time.monotonic()))
