# SPDX-License-Identifier: GPL-2.0-or-later
"""What another instance may ask for: only with proof of our token, once, and few wrong ones are told why."""

import json
import re

import pytest

from slapos.recipe.erp5.control import peer, peer_proof
from slapos.recipe.erp5.control.peer import PeerEndpoint
from slapos.recipe.erp5.errors import Busy, ServerError
from tests.unit.control.fake import service as fake

TOKEN, OTHER, OWN = fake.TOKEN, "f" * 32, "5" * 32
NONCE = "ab" * 32
NO_PROOF = "the proof is not one of this instance's token: give the takeover-url that it publishes now"
USED = "the challenge is not one of this instance's, was used, or is older than 5 minutes"


@pytest.fixture
def world():
    """What was done (`asked`), and what goes wrong (`error`)."""
    return fake.Lamp()


@pytest.fixture
def config(tmp_path):
    return fake.partition(tmp_path / "p")


@pytest.fixture
def endpoint(world, config):
    return PeerEndpoint(world, fake.json_of(config))


def request(endpoint, name, parameters, secret=TOKEN, **changes):
    challenge = endpoint.challenge()[1]["challenge"]
    mac = peer_proof.request(secret, challenge, NONCE, name, parameters)
    return {"challenge": challenge, "nonce": NONCE, "parameters": parameters, "mac": mac, **changes}


SWITCH = {"by": "somebody", "reason": "it is dark"}


def test_what_is_proved_is_done_and_the_answer_is_proved(endpoint, world):
    body = request(endpoint, "switch", SWITCH)
    status, answer = endpoint.answer("switch", body)
    mac = answer.pop("mac")
    assert (status, answer) == (200, {"result": {"on": False}})
    assert mac == peer_proof.answer(TOKEN, body["challenge"], NONCE, "switch", answer)
    assert mac != peer_proof.answer(TOKEN, body["challenge"], NONCE, "switch", {"result": {"on": True}})
    assert world.asked == [("switch", SWITCH)]


def test_a_request_counts_once(endpoint, world):
    body = request(endpoint, "switch", SWITCH)
    assert endpoint.answer("switch", body)[0] == 200
    assert endpoint.answer("switch", body) == (403, {"error": USED})
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    "forge",
    [
        lambda body: {**body, "mac": "0" * 64},
        lambda body: {**body, "parameters": {**SWITCH, "reason": "another"}},
        lambda body: {**body, "nonce": "cd" * 32},
    ],
)
def test_what_was_changed_on_the_way_is_refused(endpoint, world, forge, capsys):
    assert endpoint.answer("switch", forge(request(endpoint, "switch", SWITCH))) == (403, {"error": NO_PROOF})
    assert world.asked == []
    logged = capsys.readouterr().err
    assert "refused: switch asked for by another instance without proof of this one's token" in logged
    assert not re.search("[0-9a-f]{32}", logged)


def test_another_instances_token_is_refused(endpoint, world):
    assert endpoint.answer("switch", request(endpoint, "switch", SWITCH, OTHER)) == (403, {"error": NO_PROOF})
    assert world.asked == []


def test_a_proof_for_one_action_is_none_for_another(endpoint, world):
    body = request(endpoint, "look", {})
    assert endpoint.answer("state", {**body, "parameters": {"id": "known"}}) == (403, {"error": NO_PROOF})
    assert world.asked == []


def test_a_challenge_of_another_instance_is_refused(endpoint, world, config):
    other = PeerEndpoint(world, fake.json_of(config))
    assert endpoint.answer("switch", request(other, "switch", SWITCH)) == (403, {"error": USED})
    assert world.asked == []


def test_what_has_a_secret_of_its_own_is_asked_for_with_that(endpoint, world):
    state = "state"
    assert endpoint.answer(state, request(endpoint, state, {"id": "known"}, OWN))[0] == 200
    for secret, name in ((TOKEN, "known"), (OTHER, "known"), (OWN, "unknown"), ("", "unknown")):
        body = request(endpoint, state, {"id": name}, secret)
        assert endpoint.answer(state, body) == (403, {"error": NO_PROOF})
    assert world.asked == [(state, {"id": "known"})]
    assert endpoint.answer("switch", request(endpoint, "switch", SWITCH, OWN)) == (403, {"error": NO_PROOF})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parameters": {}}, "the parameters of switch are others than expected: by, reason"),
        (
            {"parameters": {**SWITCH, "more": "x"}},
            "the parameters of switch are others than expected: by, reason",
        ),
        ({"parameters": {**SWITCH, "by": 1}}, "a parameter is no text of at most 4096 characters"),
        ({"parameters": {**SWITCH, "by": "x" * 4097}}, "a parameter is no text of at most 4096 characters"),
        ({"mac": "A" * 64}, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each"),
        ({"nonce": None}, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each"),
        ({"more": ""}, "the request is no JSON object with challenge, nonce, parameters and mac"),
    ],
)
def test_what_is_no_request_is_refused(endpoint, world, changes, sentence):
    assert endpoint.answer("switch", {**request(endpoint, "switch", SWITCH), **changes}) == (400, {"error": sentence})
    assert endpoint.answer("switch", None)[0] == 400
    assert world.asked == []


def test_a_parameter_may_be_left_out_or_not_where_the_service_says_so(endpoint, world):
    more = {**SWITCH, "control-url": "u"}
    assert endpoint.answer("switch", request(endpoint, "switch", more))[0] == 200
    assert world.asked == [("switch", more)]
    assert endpoint.answer("look", request(endpoint, "look", {"control-url": "u"})) == (
        400,
        {"error": "the parameters of look are others than expected: none"},
    )


def test_an_unknown_action_is_refused(endpoint):
    body = request(endpoint, "drop", {})
    assert endpoint.answer("drop", body) == (404, {"error": "there is no such action for other instances"})


def test_many_wrong_proofs_shut_out_wrong_ones_of_their_address_alone(endpoint, world, capsys):
    def wrong(address):
        return endpoint.answer("switch", request(endpoint, "switch", SWITCH, OTHER), address)

    for _ in range(peer.WRONG):
        assert wrong("192.0.2.1") == (403, {"error": NO_PROOF})
    too_many = {"error": "too many requests with a wrong token came from there: wait 60 s"}
    assert [wrong("192.0.2.1") for _ in range(3)] == [(429, too_many)] * 3
    assert capsys.readouterr().err.count("refused: switch") == peer.WRONG
    assert wrong("192.0.2.2")[0] == 403
    assert world.asked == []
    assert endpoint.answer("switch", request(endpoint, "switch", SWITCH), "192.0.2.1")[0] == 200


def test_wrong_proofs_are_forgotten():
    now = [0.0]
    wrong = peer.Wrong(lambda: now[0])
    for _ in range(peer.WRONG):
        assert not wrong.too_many("a")
        wrong.count("a")
    assert wrong.too_many("a")
    now[0] = peer.PERIOD
    assert not wrong.too_many("a")
    for number in range(peer.ADDRESSES + 5):
        wrong.count(str(number))
    assert len(wrong._moments) == peer.ADDRESSES


@pytest.mark.parametrize(
    ("error", "status", "content"),
    [
        (Busy("rejoin is running"), 503, {"error": "rejoin is running", "busy": True}),
        (ServerError("a statement runs"), 409, {"error": "a statement runs"}),
        (ValueError("secret"), 503, {"error": "unexpected ValueError at PLACE, expected none: report it"}),
    ],
)
def test_what_fails_is_a_proved_sentence(endpoint, world, error, status, content):
    world.error = error
    body = request(endpoint, "switch", SWITCH)
    found, answer = endpoint.answer("switch", body)
    assert answer.pop("mac") == peer_proof.answer(TOKEN, body["challenge"], NONCE, "switch", answer)
    answer["error"] = re.sub(r"peer\.py:\d+", "PLACE", answer["error"])
    assert (found, answer) == (status, content)


def test_without_a_token_nothing_is_done(endpoint, world, config):
    body = request(endpoint, "switch", SWITCH)
    config.path("srv", "kept", "control-token").unlink()
    assert endpoint.answer("switch", body) == (503, {"error": "this instance cannot answer now: its log says why"})
    config.path("srv", "kept", "control-token").write_text("\n")
    assert endpoint.answer("switch", request(endpoint, "switch", SWITCH, ""))[0] == 503
    assert world.asked == []


def test_proofs_do_not_depend_on_the_order_of_keys_and_differ_by_direction():
    one, other = {"a": "1", "b": "2"}, json.loads('{"b": "2", "a": "1"}')
    assert peer_proof.request(TOKEN, "c", "n", "x", one) == peer_proof.request(TOKEN, "c", "n", "x", other)
    assert peer_proof.request(TOKEN, "c", "n", "x", one) != peer_proof.answer(TOKEN, "c", "n", "x", one)


def test_a_hand_over_has_a_secret_of_its_own():
    secret = peer_proof.hand_over(TOKEN, NONCE)
    assert peer_proof.SECRET.fullmatch(secret)
    assert secret != peer_proof.hand_over(OTHER, NONCE)
    assert peer_proof.public_name(secret) not in (secret, secret[::-1])
