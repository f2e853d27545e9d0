# SPDX-License-Identifier: GPL-2.0-or-later
"""Primary and replica with the certificates of an authority that somebody else runs."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.node import eventually
from tests.cluster.replicas import make_source, replica

PORT = 27300
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def authority(tmp_path):
    """A caucased that approves whatever it is asked for, as its operator would, one by one."""
    options = ["--netloc", f"127.0.0.1:{PORT}", "--service-auto-approve-count", "20", "--db", str(tmp_path / "db")]
    files = ["--server-key", str(tmp_path / "server.pem"), "--cors-key-store", str(tmp_path / "cors")]
    process = subprocess.Popen([Path(sys.executable).parent / "caucased", *options, *files])

    def answers():
        try:
            return urllib.request.urlopen(f"{URL}/cas/crt/ca.crt.pem").status == 200
        except OSError:
            return False

    eventually(answers, "caucased answers")
    yield URL
    process.terminate()
    process.wait()


def test_both_use_it_and_none_of_their_own(node, authority):
    external = {"caucased": {"external-caucased-url": authority}}
    source = make_source(node, "external", **external)
    try:
        assert source.published["caucased-url"] == authority
        with replica(node, "external-replica", source, "live", more=external, caucased_url=authority) as copy:
            ca = [(one.path / "srv/tls" / folder / "ca.pem") for one, folder in ((source, ""), (copy, "upstream"))]
            assert ca[0].read_text() == ca[1].read_text() == (copy.path / "srv/tls/ca.pem").read_text()
            copy.wait_for_row_of(source)
    finally:
        node.destroy(source)
