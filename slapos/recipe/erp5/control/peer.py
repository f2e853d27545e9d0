# SPDX-License-Identifier: GPL-2.0-or-later
"""What other instances may have this one do, when they prove to know its token: what that is, the service says.

    endpoint = PeerEndpoint(service, path)         path of the partition's configuration
    endpoint.challenge() -> (200, dict)            GET /peer/challenge
    endpoint.answer(name, body, address) -> (status, dict)   POST /peer/<name> with the decoded JSON `body`

The status is 200 when it was done; 400 no such request, 403 not proved, 404 no such action, 409 refused, 429 too many
wrong proofs of `address`, 503 busy, or failed. All but 200 have {"error": sentence}. What was proved is answered with
a proof too.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import peer_proof, token
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.errors import Busy, Error
from slapos.recipe.erp5.tls.challenges import Challenges

if TYPE_CHECKING:
    from slapos.recipe.erp5.control.service import Service

LONGEST = 4 << 10
"""Characters of a parameter."""
WRONG, PERIOD = 10, 60.0
"""So many wrong proofs of an address within so many seconds, and more of them are neither logged nor explained."""
ADDRESSES = 1024
"""How many addresses are remembered for that."""
_HEX = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Question:
    """What can be asked for: the parameters that it takes, all of them texts, and those that may be left out.

    `by_its_own_secret`: it is proved with a secret of its own, which the parameter `id` names (peer_proof.public_name).
    """

    parameters: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    by_its_own_secret: bool = False


@dataclass(frozen=True)
class Peers:
    """What can be asked of a service, by name.

    `do` does what is asked: configuration, name, parameters; it raises Busy, Error. `secret_of` finds the secret that
    somebody knows by its public name, and is empty for none.
    """

    questions: Mapping[str, Question]
    do: Callable[[Any, str, dict[str, str]], dict[str, Any]]
    secret_of: Callable[[Any, str], str] = lambda config, public_name: ""


NOBODY = Peers({}, lambda config, name, parameters: {})
"""A service that does nothing for others."""


class Refused(Exception):
    """An answer without a result: HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class PeerEndpoint:
    """See the module's text; any thread may call it."""

    def __init__(self, service: "Service", path: Path) -> None:
        self._service, self._peers, self._path = service, service.peers, path
        self._challenges, self._wrong = Challenges(times.now), Wrong()

    def challenge(self) -> tuple[int, dict[str, Any]]:
        """A challenge, to be used once, within five minutes."""
        return 200, {"challenge": self._challenges.make()}

    def answer(self, name: str, body: object, address: str = "") -> tuple[int, dict[str, Any]]:
        """Check the request's proof, do what it asks, and prove the answer."""
        try:
            config = self._service.load(self._path)
            fields, secret = self._proved(config, name, body, address)
        except Refused as refused:
            return refused.status, {"error": str(refused)}
        except (Error, OSError) as error:
            process.log(f"error: {process.describe(error)}")
            return 503, {"error": "this instance cannot answer now: its log says why"}
        status, content = _done(self._peers, config, name, fields["parameters"])
        mac = peer_proof.answer(secret, fields["challenge"], fields["nonce"], name, content)
        return status, {**content, "mac": mac}

    def _proved(self, config: Configuration, name: str, body: object, address: str) -> tuple[dict[str, Any], str]:
        """The request's fields, and the secret with which it is proved."""
        question = self._peers.questions.get(name)
        if question is None:
            raise Refused(404, "there is no such action for other instances")
        fields = _fields(name, question, body)
        if not self._challenges.is_open(fields["challenge"]):
            raise Refused(403, "the challenge is not one of this instance's, was used, or is older than 5 minutes")
        parameters = fields["parameters"]
        own = question.by_its_own_secret
        secret = self._peers.secret_of(config, parameters["id"]) if own else token.load(config)
        expected = peer_proof.request(secret, fields["challenge"], fields["nonce"], name, parameters)
        if not secret or not peer_proof.equal(expected, fields["mac"]):
            # Looked at for wrong ones alone: whoever else is behind that address may have the right token.
            if self._wrong.too_many(address):
                raise Refused(429, f"too many requests with a wrong token came from there: wait {PERIOD:g} s")
            self._wrong.count(address)
            process.log(f"refused: {name} asked for by another instance without proof of this one's token")
            raise Refused(
                403, "the proof is not one of this instance's token: give the takeover-url that it publishes now"
            )
        if not self._challenges.use(fields["challenge"]):  # somebody was quicker with the same one
            raise Refused(403, "the challenge is not one of this instance's, was used, or is older than 5 minutes")
        return fields, secret


def _fields(name: str, question: Question, body: object) -> dict[str, Any]:
    """A decoded request, of the right form throughout."""
    texts = ("challenge", "nonce", "mac")
    if not isinstance(body, dict) or set(body) != {*texts, "parameters"}:
        raise Refused(400, "the request is no JSON object with challenge, nonce, parameters and mac")
    if not all(isinstance(body[key], str) and _HEX.fullmatch(body[key]) for key in texts):
        raise Refused(400, "challenge, nonce and mac are not 64 lower-case hexadecimal digits each")
    parameters = body["parameters"]
    if not isinstance(parameters, dict) or set(parameters) - question.optional != question.parameters:
        wanted = ", ".join(sorted(question.parameters)) or "none"
        raise Refused(400, f"the parameters of {name} are others than expected: {wanted}")
    if not all(isinstance(value, str) and len(value) <= LONGEST for value in parameters.values()):
        raise Refused(400, f"a parameter is no text of at most {LONGEST} characters")
    return body


def _done(peers: Peers, config: Configuration, name: str, parameters: dict[str, str]) -> tuple[int, dict[str, Any]]:
    process.log(f"step: {name}, asked for by another instance")
    try:
        return 200, {"result": peers.do(config, name, parameters)}
    except Busy as error:
        return 503, {"error": str(error), "busy": True}
    except (Error, OSError) as error:
        process.log(f"error: {name}, asked for by another instance: {process.describe(error)}")
        return 409 if isinstance(error, Error) else 503, {"error": process.describe(error)}
    except Exception as error:  # the answer has to be proved whatever happens, or the other side does not know
        process.log(f"error: {name}, asked for by another instance: {process.describe(error)}")
        return 503, {"error": process.describe(error)}


class Wrong:
    """Counts wrong proofs by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._moments: dict[str, deque[float]] = {}

    def count(self, address: str) -> None:
        """One more."""
        with self._lock:
            moments = self._moments.pop(address, None) or deque(maxlen=WRONG)
            moments.append(self._clock())
            self._moments[address] = moments
            while len(self._moments) > ADDRESSES:
                del self._moments[next(iter(self._moments))]

    def too_many(self, address: str) -> bool:
        """Whether WRONG of them came within the last PERIOD."""
        with self._lock:
            moments = self._moments.get(address, deque())
            return len(moments) == WRONG and self._clock() - moments[0] < PERIOD
