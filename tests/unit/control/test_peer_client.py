# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking another instance, through a TLS server of this process: what is proved counts, and nothing else."""

import http.server
import json
import ssl
import threading

import pytest

from slapos.recipe.erp5.control import peer_client, peer_proof
from slapos.recipe.erp5.control.peer import PeerEndpoint
from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused, PeerUnreachable
from slapos.recipe.erp5.errors import Busy, ConfigurationError, ServerError
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import Files
from tests.unit.control.fake import service as fake

TOKEN, OTHER = fake.TOKEN, "f" * 32
SWITCH = {"by": "somebody", "reason": "it is dark"}


class Site:
    """An instance's control page, as far as other instances see it; `forge(answer)` is who sits between."""

    def __init__(self, config) -> None:
        self.forge = lambda answer: answer
        self.bodies: list[bytes] = []
        self.lamp = fake.Lamp()
        self.endpoint = PeerEndpoint(self.lamp, fake.json_of(config))
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(*site.endpoint.challenge())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                site.bodies.append(body)
                status, answer = site.endpoint.answer(self.path.removeprefix("/peer/"), json.loads(body))
                self.answer(status, site.forge(answer))

            def answer(self, status, content):
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Files(config.path("srv", "tls")).server)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.server.server_port}/"

    @property
    def url(self) -> str:
        return f"{self.base}#{TOKEN}"


@pytest.fixture
def site(tmp_path):
    config = fake.partition(tmp_path / "p")
    files.ensure(config.path("srv", "tls"), "fake", ("127.0.0.1",))
    site = Site(config)
    yield site
    site.server.shutdown()
    site.server.server_close()


def test_it_is_done_and_the_token_is_never_sent(site):
    with Peer(site.url) as other:
        other.ready()
        assert other.call("switch", SWITCH) == {"on": False}
        assert other.call("look", {}) == {"on": False}
        assert other.address == site.base[len("https://") : -1]
    assert [name for name, _ in site.lamp.asked] == ["switch", "look"]
    assert len(site.bodies) == 2 and not any(TOKEN.encode() in body for body in site.bodies)


def test_a_refusal_is_the_other_sides_own(site):
    site.lamp.error = ServerError("a statement runs")
    with Peer(site.url) as other, pytest.raises(PeerRefused) as caught:
        other.call("switch", SWITCH)
    assert str(caught.value) == f"{other.address} says: a statement runs"
    assert (caught.value.proved, caught.value.busy) == (True, False)


def test_who_is_busy_says_so(site):
    site.lamp.error = Busy("rejoin is running")
    with Peer(site.url) as other, pytest.raises(PeerRefused) as caught:
        other.call("switch", SWITCH)
    assert (caught.value.proved, caught.value.busy) == (True, True)


def test_a_wrong_token_is_refused_without_proof(site):
    with Peer(site.base + "#" + OTHER) as other, pytest.raises(PeerRefused) as caught:
        other.call("switch", SWITCH)
    assert str(caught.value) == (
        f"{other.address} refuses: the proof is not one of this instance's token: give the takeover-url that it"
        " publishes now"
    )
    assert not caught.value.proved


@pytest.mark.parametrize(
    "forge",
    [
        lambda answer: {**answer, "result": {"on": True}},
        lambda answer: {**answer, "mac": "0" * 64},
        lambda answer: {"result": answer["result"]},
        lambda answer: {"result": answer["result"], "mac": None},
    ],
)
def test_an_answer_that_is_not_proved_does_not_count(site, forge):
    site.forge = forge
    with Peer(site.url) as other, pytest.raises(PeerUnreachable) as caught:
        other.call("switch", SWITCH)
    assert str(caught.value) == (
        f"the answer of {other.address} (HTTP status 200) is not proved with its token, expected the instance of the"
        " control URL: it is another one, or somebody between changed the answer"
    )


def test_a_refusal_that_is_not_proved_is_told_from_a_real_one(site):
    site.forge = lambda answer: {"error": "no", "mac": "0" * 64}
    with Peer(site.url) as other, pytest.raises(PeerRefused) as caught:
        other.call("switch", SWITCH)
    assert not caught.value.proved


def test_an_old_answer_does_not_count_for_a_new_request(site):
    kept = []
    site.forge = lambda answer: kept.append(answer) or kept[0]
    with Peer(site.url) as other:
        other.call("switch", SWITCH)
        with pytest.raises(PeerUnreachable):
            other.call("switch", SWITCH)


def test_a_long_answer_and_one_that_is_no_json(site):
    with Peer(site.url) as other:
        site.forge = lambda answer: b"x" * (peer_client.LARGEST + 1)
        with pytest.raises(PeerUnreachable, match="does not answer"):
            other.call("switch", SWITCH)
        site.forge = lambda answer: b"<html>"
        with pytest.raises(PeerRefused, match="HTTP status 200 and no JSON object"):
            other.call("switch", SWITCH)


def test_nobody_there():
    with Peer(f"https://127.0.0.1:1/#{TOKEN}") as other, pytest.raises(PeerUnreachable) as caught:
        other.call("status", {})
    assert str(caught.value) == (
        "127.0.0.1:1 does not answer (Connection refused), expected its control page to run and be reachable"
    )


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1/#{TOKEN}",
        f"https://127.0.0.1/#{TOKEN}",
        f"https://127.0.0.1:1/x#{TOKEN}",
        f"https://u:p@127.0.0.1:1/#{TOKEN}",
        f"https://127.0.0.1:99999/#{TOKEN}",
        f"https://[::1:1/#{TOKEN}",
        "https://127.0.0.1:1/",
        f"https://127.0.0.1:1/#{TOKEN}0",
        "",
    ],
)
def test_what_is_no_takeover_url_is_refused_without_its_token(url):
    with pytest.raises(ConfigurationError) as caught:
        Peer(url, "replication.control-url")
    sentence = str(caught.value)
    assert sentence.startswith("replication.control-url: ")
    assert sentence.endswith("expected https://HOST:PORT/#TOKEN as the instance publishes it")
    assert TOKEN not in sentence


def test_both_sides_have_the_same_secret_of_a_hand_over(site):
    with Peer(site.url) as other:
        assert other.hand_over_secret("n") == peer_proof.hand_over(TOKEN, "n")
