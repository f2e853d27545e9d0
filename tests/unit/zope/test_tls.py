# SPDX-License-Identifier: GPL-2.0-or-later
"""The certificate of a partition's Zopes: who is asked for it, when, and what is said of it."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import times
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.promise import zope_certificates
from slapos.recipe.erp5.tls import JOB, files, template
from slapos.recipe.erp5.zope import jobs, tls
from slapos.recipe.erp5.zope.config import Config
from tests.unit.tls.made import Authority
from tests.unit.zope.test_instance import CONFIG, NEO

URL = "http://a%2Fsecret@[2001:db8::1]:24000"


def config_of(url: str = URL, partition: Path = Path("/p")) -> Config:
    return dataclasses.replace(CONFIG, partition=str(partition), neo=dataclasses.replace(NEO, certificate_url=url))


def test_it_is_asked_for_where_the_url_says():
    giver = tls.giver(config_of())
    assert (giver.endpoint, giver.secret) == ("http://[2001:db8::1]:24000", "a/secret")
    assert giver.where.client == Path("/p/srv/tls/client.pem")
    texts = repr(giver) + repr(config_of().neo)
    assert "a/secret" not in texts and "a%2Fsecret" not in texts


@pytest.mark.parametrize("url", ["x", "http://[2001:db8::1]:24000", "https://secret@a:1"])
def test_a_url_that_is_none(url: str):
    with pytest.raises(ConfigurationError) as caught:
        tls.giver(config_of(url))
    assert str(caught.value) == (
        "zodb.neo-certificate-url: it is not http://secret@host:port, expected what the NEO cluster publishes as "
        "neo-certificate-url"
    )


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, neo=None)])
def test_without_tls_there_is_none(config: Config):
    assert config.certificate_url == ""
    assert [plan.name for plan in jobs.of_zope(config, Path("/p/etc/zope.json"))] == [jobs.LOGS]
    with pytest.raises(ConfigurationError, match=r"this partition has no certificate, expected zodb\.neo-certificate"):
        tls.giver(config)


def test_it_is_a_regular_job():
    plan, logs = jobs.of_zope(config_of(), Path("/p/etc/zope.json"))
    assert (plan.name, plan.at_once, logs.name) == (JOB, True, jobs.LOGS)
    assert plan.command[-3:] == ("slapos.recipe.erp5.zope.certificates", "--config", "/p/etc/zope.json")


def test_what_is_said_of_it(tmp_path: Path):
    config = config_of(partition=tmp_path)
    (tmp_path / "etc").mkdir()
    shapes.save(tmp_path / "etc" / "zope.json", config)
    loaded = zope_certificates.RunPromise.load(tmp_path / "etc" / "zope.json")
    assert loaded == config
    where, now = tls.files(config), times.now()
    files.ensure(where.folder, tls.TERMS.server_name, ["127.0.0.1"])
    found = tls.status(config, now)
    assert found.certificates[0].placeholder and found.certificates[0].authority == "http://[2001:db8::1]:24000"
    made = Authority("ours", now=now)
    where.client.write_text(made.sign(template.client(tls.TERMS)))
    where.crl.write_text(made.trust().crl)
    promise = zope_certificates.RunPromise.__new__(zope_certificates.RunPromise)
    assert promise.judge(config).good
    assert tls.status(config, now + timedelta(days=80)).certificates[0].left < 0.2
    assert tls.status(config, now).terms.control == "zope-control"
