# SPDX-License-Identifier: GPL-2.0-or-later
"""The proofs: what they cover, and that no two different contents have the same one."""

import hashlib
import hmac

import pytest

from slapos.recipe.erp5.tls import proof

REQUEST = {"password": "p", "challenge": "c", "nonce": "n", "public_key": b"k", "subject": "CN=s"}
ANSWER = {
    "password": "p",
    "challenge": "c",
    "nonce": "n",
    "public_key": b"k",
    "certificate": "x",
    "ca": "a",
    "crl": "l",
    "caucased_url": "u",
}


def test_the_form_is_fixed():
    parts = (b"c", b"n", hashlib.sha256(b"k").digest(), b"CN=s")
    whole = b"slapos replication request v1\0" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert proof.request(**REQUEST) == hmac.new(b"p", whole, hashlib.sha256).hexdigest()
    digests = (hashlib.sha256(part).digest() for part in (b"k", b"x", b"a", b"l"))
    parts = (b"c", b"n", *digests, b"u")
    whole = b"slapos replication answer v1\0" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert proof.answer(**ANSWER) == hmac.new(b"p", whole, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("make, values", [(proof.request, REQUEST), (proof.answer, ANSWER)], ids=["request", "answer"])
def test_every_part_counts(make, values):
    changed = [{**values, name: value * 2} for name, value in values.items()]
    assert len({make(**each) for each in [values, *changed]}) == len(values) + 1


def test_a_part_cannot_be_moved_into_its_neighbour():
    moved = {**REQUEST, "challenge": "", "nonce": "cn"}
    assert proof.request(**moved) != proof.request(**REQUEST)


def test_a_password_of_any_letters():
    assert proof.request(**{**REQUEST, "password": "日本 é"}) != proof.request(**REQUEST)


def test_equal():
    assert proof.equal("ab", "ab")
    assert not proof.equal("ab", "ac")
    assert not proof.equal("ab", "é")
