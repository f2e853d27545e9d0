# SPDX-License-Identifier: GPL-2.0-or-later
"""Which other authorities are trusted, how they lie on disk, and what who reads one file finds in it."""

from datetime import timedelta

import pytest

from slapos.recipe.erp5.errors import CertificateError
from slapos.recipe.erp5.tls import authority, certificates, trusted
from slapos.recipe.erp5.tls.files import Files
from slapos.recipe.erp5.tls.trusted import Other
from tests.unit.tls.made import NOW, Authority


@pytest.fixture(scope="module")
def ours():
    return Authority("ours")


@pytest.fixture(scope="module")
def theirs():
    return Authority("theirs")


@pytest.fixture
def where(tmp_path):
    return Files(tmp_path)


def other(made, url="http://127.0.0.1:1"):
    return Other(url, made.trust().ca, made.trust().crl)


def found(text):
    return len(certificates.parts(text, "CERTIFICATE")), len(certificates.parts(text, "X509 CRL"))


def test_what_is_saved_is_loaded_until_something_else_is_wanted(where, ours, theirs):
    one, two = other(ours), other(theirs, "http://127.0.0.1:2")
    assert trusted.load(where) == ()
    assert [trusted.save(where, one), trusted.save(where, one), trusted.save(where, two)] == [True, False, True]
    assert set(trusted.load(where)) == {one, two}
    trusted.replace(where, [two])
    assert trusted.load(where) == (two,)
    assert trusted.save(where, Other(two.url, one.ca, one.crl))
    assert len(trusted.load(where)) == 1
    assert {path.stat().st_mode & 0o777 for path in trusted.folder(where).iterdir()} == {0o600}


def test_there_is_an_end_to_it(where, ours):
    for port in range(trusted.MOST):
        trusted.save(where, other(ours, f"http://127.0.0.1:{port + 1}"))
    with pytest.raises(CertificateError, match="^32 authorities are trusted already, expected fewer: remove some of "):
        trusted.save(where, other(ours, "http://127.0.0.1:99"))
    trusted.save(where, other(ours))  # one of them


def test_a_damaged_file_is_named(where):
    trusted.folder(where).mkdir()
    (trusted.folder(where) / "x.json").write_text("{}")
    with pytest.raises(CertificateError, match="x.json cannot be read, expected an authority: remove it"):
        trusted.load(where)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://x"},
        {"url": 1},
        {"url": "http://" + "x" * 200},
        {"url": "http://é"},
        {"ca": "x"},
        {"crl": "x"},
    ],
    ids=str,
)
def test_what_is_no_authority_is_refused(change, theirs):
    good = other(theirs)
    assert trusted.checked(good.url, good.ca, good.crl, NOW) == good
    with pytest.raises(CertificateError):
        trusted.checked(**{"url": good.url, "ca": good.ca, "crl": good.crl} | change, now=NOW)


def test_a_certificate_is_no_authority_and_a_list_of_another_is_none(ours, theirs):
    certificate = certificates.parts(theirs.sign(), "CERTIFICATE")[0]
    with pytest.raises(CertificateError):
        trusted.checked("http://x", certificate, theirs.trust().crl, NOW)
    with pytest.raises(CertificateError, match="its revocation list is not signed by the authority"):
        trusted.checked("http://x", theirs.trust().ca, ours.trust().crl, NOW)


def test_one_file_has_all_that_are_valid_and_their_lists(ours, theirs):
    old = Authority("old", begun=400)
    assert found(trusted.bundle(ours.trust(), [], NOW)) == (1, 1)
    assert found(trusted.bundle(ours.trust(), [other(theirs), other(old), other(theirs)], NOW)) == (2, 2)


def test_a_list_of_another_that_ended_keeps_who_it_is_of_out_and_nobody_else(ours, theirs):
    late = Other("http://x", theirs.trust().ca, authority.files.text(theirs.crl(age=timedelta(days=40))))
    assert found(trusted.bundle(ours.trust(), [late], NOW)) == (2, 2)


def test_with_our_own_list_ended_there_is_none(ours, theirs):
    late = authority.Trust(ours.trust().ca, authority.files.text(ours.crl(age=timedelta(days=40))))
    assert found(trusted.bundle(late, [other(theirs)], NOW)) == (2, 0)


def test_the_file_is_written_when_it_differs_alone(where, ours, theirs):
    path, trust = trusted.bundle_file(where), ours.trust()
    trusted.write_bundle(where, trust, NOW)
    first = path.stat().st_ino
    trusted.write_bundle(where, trust, NOW)
    assert path.stat().st_ino == first
    trusted.save(where, other(theirs))
    trusted.write_bundle(where, trust, NOW)
    assert found(path.read_text()) == (2, 2)
