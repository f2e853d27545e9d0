# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has not got the token, through the real nginx and mariadb-control: refused in a sentence, nothing is done."""

import http.client
import json
import secrets
from collections.abc import Iterator

import pytest

from slapos.recipe.erp5.control import peer_proof
from slapos.recipe.erp5.control.peer_client import Peer, PeerRefused
from slapos.recipe.erp5.tls.context import unverified
from tests.service.role_fixtures import Instance

TOKEN, OTHER = secrets.token_hex(16), secrets.token_hex(16)
FENCE = {"address": "127.0.0.1:1", "new-primary": "mysql://127.0.0.1:2", "by": "somebody", "reason": "an attack"}
NO_PROOF = "the proof is not one of this instance's token: give the takeover-url that it publishes now"
USED = "the challenge is not one of this instance's, was used, or is older than 5 minutes"


@pytest.fixture
def instance() -> Iterator[Instance]:
    """One without a database, which would be needed if anything were done."""
    made = Instance("A", TOKEN)
    try:
        made.start_nginx()
        made.start_control()
        yield made
        assert not made.config.path("srv", "role").exists()  # nothing was done, and nothing noted
        assert_no_secret(made)
    finally:
        made.stop()


def assert_no_secret(instance: Instance) -> None:
    """No log has the token, a proof, or what a request was about."""
    content = "".join(path.read_text(errors="replace") for path in instance.config.path("var", "log").iterdir())
    assert "POST /peer/" in content
    assert TOKEN not in content and OTHER not in content and "an attack" not in content


def send(instance: Instance, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    network = instance.config.network
    connection = http.client.HTTPSConnection(network.ipv4, network.control_port, timeout=30, context=unverified())
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask(instance: Instance, name: str, body: object) -> tuple[int, str]:
    """Status, and the sentence."""
    status, answer = send(instance, "POST", f"/peer/{name}", json.dumps(body).encode())
    return status, json.loads(answer)["error"]


def request(instance: Instance, name: str, parameters: dict, secret: str = TOKEN) -> dict:
    challenge = json.loads(send(instance, "GET", "/peer/challenge")[1])["challenge"]
    nonce = secrets.token_hex(32)
    mac = peer_proof.request(secret, challenge, nonce, name, parameters)
    return {"challenge": challenge, "nonce": nonce, "parameters": parameters, "mac": mac}


def test_forged_replayed_relayed(instance):
    good = request(instance, "hand-over-state", {"id": "0" * 32})
    assert ask(instance, "hand-over-state", good) == (403, NO_PROOF)  # the token is none for that
    body = request(instance, "fence", FENCE)
    for forged in (
        {**body, "mac": "0" * 64},
        {**body, "nonce": "0" * 64},
        {**body, "parameters": {**FENCE, "reason": "another"}},
        request(instance, "fence", FENCE, OTHER),
    ):
        assert ask(instance, "fence", forged) == (403, NO_PROOF)
    assert ask(instance, "complete", {**body, "parameters": {"id": "x"}}) == (403, NO_PROOF)
    assert ask(instance, "fence", {**body, "challenge": "0" * 64}) == (403, USED)


def test_a_request_counts_once(instance):
    body = request(instance, "status", {})
    status, _ = ask(instance, "status", body)
    assert status == 409  # it is proved, and there is no database to ask
    assert ask(instance, "status", body) == (403, USED)


def test_another_instances_token(instance):
    with Peer(f"{instance.base}/#{OTHER}") as peer, pytest.raises(PeerRefused) as caught:
        peer.call("fence", FENCE)
    assert str(caught.value) == f"{instance.control_address} refuses: {NO_PROOF}"
    assert not caught.value.proved


def test_too_large_and_of_another_form(instance):
    assert send(instance, "POST", "/peer/fence", b"x" * (17 << 10))[0] == 413
    assert ask(instance, "fence", [1]) == (
        400,
        "the request is no JSON object with challenge, nonce, parameters and mac",
    )
    assert send(instance, "POST", "/peer/fence", b"\xff{")[0] == 400
    assert ask(instance, "fence", request(instance, "fence", {**FENCE, "by": "x" * 5000}))[0] == 400
    assert ask(instance, "unknown", request(instance, "unknown", {}))[0] == 404
    for path in ("/peer/../live", "/peer/..%2flive", "/peer/fence/more", "/peer/"):
        assert send(instance, "POST", path, b"{}")[0] in (400, 404, 405), path
    assert send(instance, "GET", "/peer/fence")[0] in (404, 405)
    assert send(instance, "PUT", "/peer/fence", b"{}")[0] == 405


def test_who_guesses_is_shut_out(instance):
    refused = [ask(instance, "fence", request(instance, "fence", FENCE, OTHER)) for _ in range(12)]
    assert refused[0] == (403, NO_PROOF)
    assert refused[-1] == (429, "too many requests with a wrong token came from there: wait 60 s")
    assert ask(instance, "status", request(instance, "status", {}))[0] == 409  # as ever for who has the token
