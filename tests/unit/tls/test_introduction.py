# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may add an authority, and who is believed about authorities: both sides, over a wire that somebody else has."""

import io
import json

import pytest

from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.neo.terms import TERMS
from slapos.recipe.erp5.tls import introduction, join, trusted
from slapos.recipe.erp5.tls.endpoint import Endpoint
from slapos.recipe.erp5.tls.exchange import Exchange
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.join import Giver
from slapos.recipe.erp5.tls.trusted import Other
from tests.unit.neo import partition
from tests.unit.tls.made import NOW, Authority

URL = "http://127.0.0.1:24000"


@pytest.fixture(scope="module")
def ours():
    return Authority("ours")


@pytest.fixture(scope="module")
def theirs():
    return Authority("theirs")


class Wire:
    """Carries what is asked to an Exchange; `seen` has the requests, `forge` may change answers."""

    def __init__(self, config, monkeypatch):
        self.exchange = Exchange(lambda: config, TERMS, self.others, lambda: NOW)
        self.seen, self.forge = [], lambda answer: answer
        monkeypatch.setattr(Endpoint, "_exchange", lambda endpoint, *request: self.carry(*request))

    def others(self, environ, start_response):
        start_response("404 Not Found", [])
        return [b"{}"]

    def carry(self, method, path, content):
        self.seen.append(content)
        status, body = self.raw(method, path, content or b"")
        return status, json.dumps(self.forge(json.loads(body))).encode()

    def raw(self, method, path, content, length=None):
        found = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(content)}
        environ["CONTENT_LENGTH"] = str(len(content) if length is None else length)
        answer = b"".join(self.exchange(environ, lambda status, headers: found.append(int(status.split()[0]))))
        return found[0], answer


@pytest.fixture
def config(tmp_path, ours):
    made = partition.authority(tmp_path)
    where, trust = Files(made.tls), ours.trust()
    where.folder.mkdir(parents=True)
    where.ca.write_text(trust.ca)
    where.crl.write_text(trust.crl)
    return made


@pytest.fixture
def wire(config, monkeypatch):
    return Wire(config, monkeypatch)


def giver(secret="SECRET"):
    return Giver(Files("/none"), TERMS, URL, secret)


def other(made, url="http://127.0.0.9:24000"):
    return Other(url, made.trust().ca, made.trust().crl)


def ask(given=None, said=None):
    return introduction.ask(given or giver(), said, lambda: NOW)


def test_who_is_introduced_is_trusted_and_told_to_the_next(wire, config, ours, theirs):
    assert [one.ca for one in ask()] == [ours.trust().ca]
    assert ask(said=other(theirs)) == (Other(URL, ours.trust().ca, ours.trust().crl), other(theirs))
    assert trusted.load(Files(config.tls)) == (other(theirs),)
    assert len(ask()) == 2
    assert b"SECRET" not in b"".join(filter(None, wire.seen))


def test_a_wrong_secret_adds_nothing(wire, config, theirs):
    with pytest.raises(CertificateError, match="refuses our proof .the proof is not one of this cluster's secret of"):
        ask(giver("guessed"), other(theirs))
    assert trusted.load(Files(config.tls)) == ()


def test_a_request_counts_once_and_for_what_it_said(wire, config, theirs):
    ask(said=other(theirs))
    request = json.loads(wire.seen[-1])
    path = TERMS.path + introduction.PATH
    assert wire.raw("POST", path, json.dumps(request).encode())[0] == 403
    fresh = request | json.loads(wire.raw("GET", f"{TERMS.path}/challenge", b"")[1])
    assert wire.raw("POST", path, json.dumps(fresh).encode())[0] == 403
    changed = request | {"authority": json.dumps({"url": "http://6.6.6.6:1"})}
    assert wire.raw("POST", path, json.dumps(changed).encode())[0] == 403


def test_an_answer_that_was_changed_or_is_an_older_one_is_not_believed(wire, theirs):
    ask()
    answers = []
    wire.forge = lambda answer: answers.append(answer) or answer
    ask()
    old = answers[-1]
    for forged in (lambda a: a | {"authorities": "[]"} if "mac" in a else a, lambda a: old if "mac" in a else a):
        wire.forge = forged
        with pytest.raises(CertificateError, match="is not proved with the secret of its certificates, expected our"):
            ask()


@pytest.mark.parametrize("said", ["x", "{}", '{"url": "http://x", "ca": "x", "crl": "x"}'])
def test_what_is_no_authority_is_refused_even_with_the_secret(wire, config, said, monkeypatch):
    monkeypatch.setattr(introduction, "_as_dict", lambda one: json.loads(said) if said != "x" else "x")
    with pytest.raises(CertificateError, match="HTTP status 400: the authority cannot be used: "):
        ask(said=Other("", "", ""))
    assert trusted.load(Files(config.tls)) == ()


@pytest.mark.parametrize(
    "content, length",
    [(b"", 0), (b"x", None), (b"[]", None), (b"{}", None), (b"1", 10**9), (b'{"challenge": 1}', None), (b"x", -1)],
)
def test_no_request(wire, content, length):
    for path in (introduction.PATH, "/certificate"):
        assert wire.raw("POST", TERMS.path + path, content, length)[0] == 400


def test_all_else_is_the_authoritys(wire):
    for method, path in (("GET", "/cas/crl"), ("POST", "/neo/challenge"), ("GET", "/neo/certificate"), ("PUT", "/")):
        assert wire.raw(method, path, b"")[0] == 404


def test_placeholders_are_told_to_nobody(wire, config):
    where = Files(config.tls)
    ca, crl, *_ = join.files.placeholders("neo", ("127.0.0.2",), NOW)
    where.ca.write_text(ca)
    where.crl.write_text(crl)
    with pytest.raises(CertificateError, match="it has no certificates of its own authority yet: wait a minute"):
        ask()
