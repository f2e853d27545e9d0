# SPDX-License-Identifier: GPL-2.0-or-later
"""Placeholders where files are missing, and the requests that a person is to approve, the same at each processing."""

import pytest
from cryptography import x509

from slapos.recipe.erp5.buildout.mariadb_tls import Recipe
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import Files

WITH_ENDPOINT = "mysql://u:p@127.0.0.1:1?endpoint=https%3A%2F%2F127.0.0.1%3A2"
BY_HAND = {"replicate-with-tls": True, "caucased-url": "http://127.0.0.1:3", "primary-url": "mysql://u:p@127.0.0.1:1"}


@pytest.fixture
def processed(tmp_path):
    """Processes the section; returns the subjects and addresses of the requests that are published, and their text."""

    def process(external="", replication=None):
        options = {
            "folder": str(tmp_path / "tls"),
            "ip": "127.0.0.1\n::1",
            "external-caucased-url": external,
            "replication": replication,
        }
        recipe = Recipe(None, "tls", options)
        assert recipe.install() == recipe.update() == ()
        return options["requests"]

    return process


def subjects(text):
    parts = [part + "-----END CERTIFICATE REQUEST-----\n" for part in text.split("-----END CERTIFICATE REQUEST-----\n")]
    return [x509.load_pem_x509_csr(part.encode()).subject.rfc4514_string() for part in parts[:-1]]


def test_nobody_has_to_approve_anything_by_default(processed, tmp_path):
    assert processed() == ""
    assert processed(replication=BY_HAND | {"primary-url": WITH_ENDPOINT}) == ""
    assert processed(replication=BY_HAND | {"replicate-with-tls": False}) == ""
    assert Files(tmp_path / "tls").server.exists()


def test_a_replica_asks_for_its_certificate_by_hand_until_it_has_one(processed, tmp_path):
    asked = processed(replication=BY_HAND)
    assert subjects(asked) == [f"CN={files.CLIENT_NAME}"]
    assert processed(replication=BY_HAND) == asked
    upstream = Files(tmp_path / "tls").upstream
    upstream.client.write_text(files.placeholders("mariadb", (), files.times.now())[3].replace("placeholder", "x"))
    assert processed(replication=BY_HAND) == asked, "as long as the request lies there"


def test_an_external_authority_is_asked_for_both_of_ours(processed):
    asked = processed(external="http://127.0.0.1:3")
    assert subjects(asked) == ["CN=mariadb", f"CN={files.CLIENT_NAME}"]
    assert processed(external="http://127.0.0.1:3") == asked


def test_what_waits_already_is_published_though_there_is_an_endpoint(processed):
    asked = processed(replication=BY_HAND)
    assert processed(replication=BY_HAND | {"primary-url": WITH_ENDPOINT}) == asked
