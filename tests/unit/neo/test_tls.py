# SPDX-License-Identifier: GPL-2.0-or-later
"""NEO's plug for certificates: its URL, what is started how, and what is said of a node's certificate."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from slapos.recipe.erp5 import times
from slapos.recipe.erp5.control import state
from slapos.recipe.erp5.control.state import Job, State
from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.neo import ctl, jobs, start, tls
from slapos.recipe.erp5.neo import status as cluster_status
from slapos.recipe.erp5.neo.config import CERTIFICATE_FILES, NodeTls
from slapos.recipe.erp5.tls import JOB, files, template, trusted, verdict, waiting
from slapos.recipe.erp5.tls.files import Files
from tests.unit.neo import partition
from tests.unit.tls.made import Authority

URL = "http://[::1]:24000"
NODE_TLS = NodeTls(URL, "SECRET")


@pytest.fixture
def node(tmp_path):
    config = partition.node(tmp_path, tls=NODE_TLS)
    tls.node_files(config).folder.mkdir(parents=True)
    return config


def test_a_published_url_says_where_and_by_which_secret():
    text = tls.url(URL, "a/b")
    assert text == "http://a%2Fb@[::1]:24000"
    given = tls.giver(Files(Path("/p")), text)
    assert (given.endpoint, given.secret) == (URL, "a/b")


@pytest.mark.parametrize("text", ["x", URL, "https://s@a:1", "http://s@a", "http://s@a:1/path", "http://s@a:x"])
def test_another_url_is_refused_without_a_word_of_it(text):
    with pytest.raises(ConfigurationError) as caught:
        tls.giver(Files(Path("/p")), text)
    assert str(caught.value) == (
        "ssl.upstream-certificate-url: it is not http://secret@host:port, expected what the upstream publishes as "
        "neo-certificate-url"
    )


def test_secrets_are_in_no_text_of_a_configuration(tmp_path, node):
    assert "SECRET" not in repr(node) + repr(partition.authority(tmp_path))


def test_the_names_of_the_files_are_those_that_are_written():
    where = Files(Path("/p"))
    assert (trusted.bundle_file(where).name, where.client.name, where.client.name) == CERTIFICATE_FILES


def test_each_process_has_the_files_and_sees_new_ones(node):
    folder = node.path("srv", "tls")
    options = ("--ca", f"{folder}/trusted.pem", "--cert", f"{folder}/client.pem", "--key", f"{folder}/client.pem")
    before = ("/none/neoppod/bin/python", "/none/neo_tls.py")
    assert start.admin_command(node)[:4] == (*before, "neo.scripts.neoadmin", "--")
    assert start.storage_command(node, "storage-0")[:4] == (*before, "neo.scripts.neostorage", "--")
    assert start.master_command(node, None, True)[:4] == (*before, "neo.scripts.neomaster", "--")
    ours = (*before, "neo_master", "--", "--new-flag", str(node.new_flag), "--")
    assert start.master_command(node, None, False)[:7] == ours
    for command in (start.admin_command(node), start.storage_command(node, "storage-1")):
        assert " ".join(options) in " ".join(command)


def test_without_tls_nothing_is_between(tmp_path):
    node = partition.node(tmp_path)
    assert start.admin_command(node)[0] == "/none/neoppod/bin/neoadmin"
    assert "--ca" not in start.master_command(node, None, False)


def test_programs_ask_with_the_clusters_certificate(tmp_path, monkeypatch):
    config = partition.authority(tmp_path).config
    asker = cluster_status.asker(config)
    assert [Path(path).name for path in asker._tls] == list(CERTIFICATE_FILES)
    found = []
    monkeypatch.setattr(ctl.os, "execve", lambda program, command, environment: found.append(command))
    monkeypatch.setattr(ctl, "first_reachable", lambda admins: admins[0])
    ctl.run(config, ["print", "cluster"])
    assert found[0][2:5] == ["-a", "a:2", "--ca"] and found[0][-2:] == ["print", "cluster"]


def test_processes_wait_for_what_they_are_given(node, monkeypatch, capsys):
    missing, naps = list(dict.fromkeys(node.tls_files)), []

    def sleep(seconds):
        naps.append(seconds)
        missing.pop().write_text("x")

    monkeypatch.setattr(start.time, "sleep", sleep)
    assert start.certified(node) is node
    assert naps == [start.LOOK] * 2
    assert start.certified(node) is node
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("trusted.pem, which the service neo-node-control gets from the cluster's authority")


def test_certificates_are_a_regular_job_where_there_is_tls(tmp_path, node):
    config = partition.authority(tmp_path).config
    (plan,) = jobs.of_cluster(config, Path("/p/etc/neo.json"))
    assert (plan.name, plan.at_once, plan.longest_pause) == (JOB, True, 10)
    assert plan.command[-3:] == ("slapos.recipe.erp5.neo.renew_certificates", "--config", "/p/etc/neo.json")
    assert [one.name for one in jobs.of_node(node, Path("/p"))] == [JOB, jobs.LOGS]
    assert jobs.of_cluster(partition.cluster(), Path("/p")) == ()
    assert [one.name for one in jobs.of_node(partition.node(tmp_path), Path("/p"))] == [jobs.LOGS]


# ---- what is said


def judged(node, now):
    found = verdict.certificates(tls.node_status(node, now), now)
    return found.good, "; ".join(found.sentences)


def test_a_new_node_has_a_while_to_get_its_certificate(node, capsys):
    now = times.now()
    assert judged(node, now)[0]

    job = Job(JOB, outcome=state.FAILED, message="nobody answers", since=times.text(now))
    state.save(node.scheduler_state, State(jobs=(job,)))
    assert judged(node, now)[0]
    good, sentence = judged(node, now + timedelta(minutes=16))
    assert not good
    assert sentence == (
        f"client.pem is still a placeholder after 16 min, expected a certificate of {URL} (the renewal says: nobody "
        "answers): read the logs of the services neo-caucased and neo-node-control"
    )


def test_a_request_that_waits_is_told(node):
    where = tls.node_files(node)
    waiting.request(Files.pending(where.client), template.client(tls.TERMS))
    assert judged(node, times.now()) == (
        False,
        f"the request for client.pem waits at {URL} for somebody's approval, expected a certificate: have it signed "
        "there (its number is in the log of the service neo-node-control); then it goes on by itself",
    )


def test_a_good_one_and_an_old_one(node):
    made, where = Authority("ours", now=times.now()), tls.node_files(node)
    where.client.write_text(made.sign(template.client(tls.TERMS)))
    where.crl.write_text(made.trust().crl)
    good, sentence = judged(node, times.now())
    assert good and sentence.startswith("certificates and revocation lists are valid: client.pem until ")
    good, sentence = judged(node, times.now() + timedelta(days=80))
    assert not good and "client.pem expires at" in sentence


def test_a_cluster_without_tls_has_no_certificates(tmp_path):
    with pytest.raises(ConfigurationError, match="expected the parameter ssl.enable true"):
        tls.authority(partition.cluster())
    with pytest.raises(ConfigurationError, match="this node has no certificates"):
        tls.renew_node(partition.node(tmp_path))


def test_what_is_signed_is_a_server_and_a_client():
    kind = template.client(tls.TERMS)
    request = template.certificates.request(template.request(kind, files.new_key()))
    usage = request.extensions.get_extension_for_class(template.x509.ExtendedKeyUsage).value
    assert len(list(usage)) == 2
    assert dataclasses.replace(kind, both=False).usages != kind.usages
