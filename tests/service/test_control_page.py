# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page by real nginx, over real servers: what it shows, what its actions do, and what programs get."""

import fcntl
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slapos.recipe.erp5.control import action, journal, token
from slapos.recipe.erp5.mariadb import sampler
from slapos.recipe.erp5.mariadb.config import Network
from tests.service import servers
from tests.service.control_fixtures import TOKEN, Client, Front, fronted
from tests.service.replication_fixtures import Pair, running_pair, temporary_partition
from tests.service.servers import wait_for


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_pair() as pair:
        yield pair


@pytest.fixture(scope="module")
def replica(pair) -> Iterator[Front]:
    """The replica's page, which has looked at its database."""
    with fronted(pair.replica.config) as front:
        front.wait_for_a_look()
        yield front


@pytest.fixture(scope="module")
def primary() -> Iterator[Front]:
    """A primary's page, on IPv4 and IPv6; for actions, which leave it as it was."""
    ports = (servers.free_port() for _ in range(4))
    with (
        temporary_partition(network=Network("127.0.0.1", "::1", *ports)) as config,
        servers.running(config),
        fronted(config) as front,
    ):
        front.wait_for_a_look()
        yield front


@pytest.fixture
def operator(primary) -> Client:
    """Somebody with a session."""
    client = Client(primary)
    assert client.log_in().status == 303
    return client


def names(page: str) -> str:
    """A page's words without marks, in one line."""
    return " ".join(re.sub("<[^>]*>", " ", page).replace("&#39;", "'").split())


# ---- who is let in


def test_without_a_session_there_is_a_form_for_the_token_alone(primary):
    answer = Client(primary).get("/")
    assert answer.status == 200
    assert "This page looks after a MariaDB database and its role. It opens to who has its token." in answer.text
    assert "GTID" not in answer.text
    for path in ("/fragment", "/action/fence"):
        answer = Client(primary).get(path)
        assert answer.status == 401 and 'action="/login"' in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_token_or_the_whole_url_opens_a_session(primary, host):
    for secret in (TOKEN, token.url(primary.config, TOKEN)):
        client = Client(primary, host)
        answer = client.log_in(secret)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        name, _, settings = answer.headers["set-cookie"].partition("=")
        assert name == f"__Host-control-{primary.config.network.control_port}"
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(settings.split("; "))
        assert "GTID written here" in client.get("/").text


def test_a_session_ends(operator):
    page = operator.get("/")
    answer = operator.post("/logout", guard=page.field("guard"))
    assert answer.status == 303
    assert re.search(r"^__Host-control-\d+=;.* Max-Age=0;", answer.headers["set-cookie"])


def test_another_token_ends_all_sessions_at_once(operator, primary):
    config = primary.config
    command = [sys.executable, "-m", "slapos.recipe.erp5.mariadb.control_token", "--replace", "--config"]
    done = subprocess.run([*command, config.path("etc", "mariadb.json")], capture_output=True, text=True, check=True)
    new = done.stdout.strip().partition("#")[2]
    try:
        assert 'action="/login"' in operator.get("/").text
        assert Client(primary).log_in(TOKEN).status == 403
        assert Client(primary).log_in(new).status == 303
    finally:
        config.control_token.write_text(TOKEN)


def test_headers(primary):
    headers = Client(primary).get("/").headers
    policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    assert headers["content-security-policy"] == policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in headers


# ---- what is shown


def test_a_replica(replica, pair):
    client = Client(replica)
    client.log_in()
    text = names(client.get("/").text)
    source = pair.primary.config.network
    for words in (
        f"Replica of 127.0.0.1:{source.port} read-only",
        "Lag 0 s Not yet here 0 transactions",
        "Lag over the last hour: at most 0 s, 0 s when last known",
        f"Role asked for replica of 127.0.0.1:{source.port}",
        f"Follows 127.0.0.1:{source.port} as replication_user, over TLS",
        "Receiving Yes Applying Yes",
        "Last actions None yet.",
    ):
        assert words in text
    position = servers.query(replica.config, "SELECT @@gtid_slave_pos")[0][0]
    assert f"GTID applied {position} GTID written here {position}" in text
    assert text.index("Take over") < text.index("Others")


def test_the_fragment_has_the_same_parts(replica):
    client = Client(replica)
    client.log_in()
    parts = re.findall(r'id="(part-[a-z]+)"', client.get("/fragment").text)
    assert parts == re.findall(r'id="(part-[a-z]+)"', client.get("/").text)
    assert len(parts) == 8


def test_a_dead_primary_is_told_and_its_last_position_stays_known(replica, pair):
    config = replica.config
    wait_for(lambda: sampler.latest(config).known, "a position of the primary")
    position = servers.query(pair.primary.config, "SELECT @@gtid_binlog_pos")[0][0]
    pair.primary.kill()
    try:
        wait_for(lambda: Client(replica).status()["problems"], "a problem")
        content = Client(replica).status()
        where = f"127.0.0.1:{pair.primary.config.network.port}"
        assert content["problems"][0].startswith(f"the thread that receives from {where} is trying to connect")
        assert content["source"]["lag"] is None and content["source"]["behind"] is None
        wait_for(lambda: sampler.latest(config).sample.primary_pos is None, "a look without the primary")
        assert sampler.latest(config).known.primary_pos == position
        client = Client(replica)
        client.log_in()
        page = client.get("/")
        assert "Needs attention" in page.text and f"<title>Needs attention: {config.instance}</title>" in page.text
    finally:
        pair.primary.run()
    wait_for(lambda: not Client(replica).status()["problems"], "the end of the problem")


def test_no_server(make_partition):
    """As before the database is made, or when the service is down: the page is there."""
    with fronted(make_partition()) as front:
        front.wait_for_a_look()
        content = Client(front).status()
        assert content["server"]["role"] == "unknown"
        assert content["server"]["error"] == "there is no database yet"
        client = Client(front)
        client.log_in()
        assert "No answer from the database" in client.get("/").text
        assert 'class="button' in client.get("/").text


# ---- for programs


def test_status_json(replica, pair):
    content = Client(replica).status()
    assert content["instance"] == "test instance"
    assert content["requested"] == f"replica of 127.0.0.1:{pair.primary.config.network.port}"
    assert content["server"]["role"] == "replica" and content["server"]["writable"] is False
    assert content["source"]["lag"] == 0
    assert {one["name"] for one in content["certificates"]} >= {"server.pem", "client.pem", "crl.pem"}
    assert content["samples"][-1]["lag"] == 0
    secrets = replica.config.secrets
    for secret in (TOKEN, secrets.replication_password, secrets.administrator_password, secrets.backup_token):
        assert secret not in json.dumps(content)


def test_metrics(replica):
    answer = Client(replica).get("/metrics", Authorization=f"Bearer {token.read_token(TOKEN)}")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }
    assert found[("mariadb_up",)] == found[("mariadb_is_replica",)] == found[("mariadb_requested_replica",)] == 1
    assert found[("mariadb_writable",)] == found[("mariadb_replication_lag_seconds",)] == 0
    assert found[("mariadb_replication_thread_running", "receive")] == 1
    assert found[("mariadb_gtid_sequence", "0", "applied")] == found[("mariadb_gtid_sequence", "0", "primary")] > 0
    assert found[("mariadb_certificate_end_timestamp_seconds", "server.pem")] > 1.7e9


@pytest.mark.parametrize("path", ["/status.json", "/metrics"])
def test_who_may_read(primary, operator, path):
    assert operator.get(path).status == 200
    for secret in (TOKEN, token.read_token(TOKEN)):
        assert Client(primary).get(path, Authorization=f"Bearer {secret}").status == 200
    answer = Client(primary).get(path)
    assert answer.status == 401 and answer.headers["www-authenticate"] == 'Bearer realm="mariadb"'


def test_the_token_for_reading_opens_no_session(primary):
    assert Client(primary).log_in(token.read_token(TOKEN)).status == 403


# ---- actions


def acted(front: Front, name: str) -> bool:
    """Whether the last action in the journal is this one, and has ended."""
    return [entry.action for entry in journal.last(front.config, 1)] == [name]


def test_an_action_is_looked_at_confirmed_done_and_remembered(primary, operator):
    page = operator.form("fence")
    assert "<h1>Fence: test instance</h1>" in page.text
    assert "It can go ahead" in page.text
    answer = operator.confirm("fence")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    wait_for(lambda: acted(primary, "fence"), "the journal's entry")
    entry = journal.last(primary.config)[0]
    assert (entry.action, entry.by, entry.outcome) == ("fence", "page", "done")
    wait_for(lambda: Client(primary).status()["server"]["writable"] is False, "the page to see it")
    text = names(operator.get("/").text)
    assert f"Last action: Fence, done {entry.sentence}" in text
    assert servers.query(primary.config, "SELECT @@read_only") == [(1,)]
    wait_for(lambda: action.current(primary.config) is None, "the end of the program")
    assert operator.confirm("resume").status == 303
    wait_for(lambda: Client(primary).status()["server"]["writable"], "writes again")
    wait_for(lambda: acted(primary, "resume"), "the journal's entry, which comes after that")
    assert [one["action"] for one in Client(primary).status()["actions"]][:2] == ["resume", "fence"]


def test_another_name_confirms_nothing(primary, operator):
    before = journal.last(primary.config)
    answer = operator.confirm("fence", instance="another")
    assert answer.status == 400
    assert answer.problem == "The name of the instance is another one: type test instance to confirm."
    assert journal.last(primary.config) == before


def test_what_cannot_be_done_has_no_button(operator):
    page = operator.form("takeover")
    assert "It cannot be done now" in page.text and "Stands in the way" in page.text
    assert 'value="act"' not in page.text


def test_a_refused_action_is_told(primary, operator):
    """The button may be pressed all the same, by a program: the action itself decides."""
    page = operator.form("takeover")
    fields = {"guard": page.field("guard"), "number": page.field("number"), "instance": "test instance", "do": "act"}
    assert operator.post("/action/takeover", **fields).status == 303
    wait_for(lambda: acted(primary, "takeover"), "the journal's entry")
    assert journal.last(primary.config)[0].outcome == "refused"
    assert journal.last(primary.config)[0].sentence in names(operator.get("/").text)


def test_looking_again_with_an_option_does_nothing(primary, operator):
    before = journal.last(primary.config)
    page = operator.form("takeover")
    secret = "https://127.0.0.1:1/#" + "f" * 32
    answer = operator.post("/action/takeover", guard=page.field("guard"), do="check", **{"option-control-url": secret})
    assert answer.status == 200 and f'value="{secret}"' in answer.text
    assert journal.last(primary.config) == before
    assert [name for name, text in primary.logs().items() if "f" * 32 in text] == []


def test_an_action_is_not_started_twice(primary, operator):
    with primary.config.path("var", "run", "action.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = operator.confirm("fence")
    assert answer.status == 409
    expected = r"Another action runs here since \S+Z, expected none for fence: wait for its end\."
    assert re.fullmatch(expected, answer.problem)
