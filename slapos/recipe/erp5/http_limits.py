# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits for answers of HTTP servers that need not mean well: their size, and how long they take altogether."""

import contextlib
import http.client
import threading
from collections.abc import Iterator


def body_of(response: http.client.HTTPResponse, largest: int) -> bytes:
    """The whole body. Raises HTTPException when it is cut, ValueError for more than `largest` bytes."""
    content = response.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"more than {largest} bytes")
    if response.length:  # what is still to come: read() with a limit ends silently with the connection
        raise http.client.IncompleteRead(content, response.length)
    return content


@contextlib.contextmanager
def deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """End what `connection` is doing after so many seconds: it then fails as if the other side had gone."""

    def end() -> None:
        with contextlib.suppress(OSError, AttributeError):  # not connected, or not any more
            connection.sock.shutdown(2)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
