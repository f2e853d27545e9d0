# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request of another partition leaves in the logs when the Master, over HTTP, does not satisfy it: no secret."""

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from slapos.util import dumps
from zc.buildout import UserError

from slapos import slap
from slapos.recipe.erp5.buildout import neo_nodes
from tests.service.servers import free_port

SECRET = "5ecret" * 5
PARAMETERS = {"cluster": "main", "ssl": {"caucased-url": "http://127.0.0.1:24000", "secret": SECRET}}


@pytest.fixture(params=[404, 408, 500])
def master(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Master that knows who asks, and answers each request with this HTTP status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (of the base class)
            self.answer(200, dumps(slap.ComputerPartition("computer", "partition")))

        def do_POST(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(request.param, b"no")

        def answer(self, status: int, text: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = HTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_not_satisfied_is_told_without_its_parameters(
    master: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    connection = dict.fromkeys(("key-file", "cert-file", "computer-id", "partition-id", "software-url"), "")
    buildout = {"slap-connection": {"requested": "started"}}
    ask = neo_nodes.asker(buildout, {**connection, "server-url": master, "computer-id": "c", "partition-id": "p"})
    raised = ""
    try:
        ask("neo-node-0", PARAMETERS, {})
    except UserError as error:
        raised = str(error)
    assert not any(SECRET in text for text in (*capfd.readouterr(), caplog.text, raised))
    assert raised.startswith("neo-node-0") and raised in caplog.text
