# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever is not meant to act does not, by real nginx: each attack is refused, changes nothing, leaves no secret."""

import socket
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from slapos.recipe.erp5.control import action, journal, session, token
from slapos.recipe.erp5.tls.context import unverified
from tests.service import servers
from tests.service.control_fixtures import BROWSER, TOKEN, Answer, Client, Front, fronted
from tests.service.replication_fixtures import temporary_partition
from tests.service.servers import wait_for

NAME = "test instance"
FOREIGN = "This did not come from a form of this page: open the page, and use its form."


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A running primary with its page; no test may change its role, but those that say so."""
    with temporary_partition() as config, servers.running(config), fronted(config) as front:
        front.wait_for_a_look()
        yield front


@pytest.fixture
def victim(front) -> Iterator[Client]:
    """An operator with a session, in whose name nothing may happen."""
    client = Client(front)
    assert client.log_in().status == 303
    before = journal.last(front.config)
    yield client
    assert journal.last(front.config) == before
    assert not front.config.path("var", "run", "action.json").exists()
    assert servers.query(front.config, "SELECT @@read_only") == [(0,)]


def fields(page: Answer, **changes: str) -> dict[str, str]:
    """A complete form of the action whose page this is."""
    good = {"guard": page.field("guard"), "number": page.field("number"), "instance": NAME, "do": "act"}
    return {**good, **changes}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("purpose", [{}, {"Sec_Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}])
def test_looking_never_acts(victim, method, purpose):
    """A hundred times, with all that a form would send, in the address and in the body."""
    form = fields(victim.form("fence"))
    for _ in range(100):
        answer = victim.ask(method, f"/action/fence?{urlencode(form)}", form, **purpose)
        assert answer.status == 200


def test_a_form_counts_once(front):
    """This one acts: once."""
    client = Client(front)
    client.log_in()
    before = len(journal.last(front.config, 100))
    form = fields(client.form("fence"))
    assert client.post("/action/fence", **form).status == 303
    wait_for(lambda: len(journal.last(front.config, 100)) > before, "the action's entry")
    wait_for(lambda: action.current(front.config) is None, "its end")
    for _ in range(3):
        answer = client.post("/action/fence", **form)
        assert answer.status == 409
        assert answer.problem == (
            "This form was used before, or is older than 5 minutes: read it again, and confirm again."
        )
    assert client.confirm("resume").status == 303
    wait_for(lambda: len(journal.last(front.config, 100)) > before + 1, "writes again")
    assert [entry.action for entry in journal.last(front.config, 2)] == ["resume", "fence"]
    assert len(journal.last(front.config, 100)) == before + 2


def test_nobody_acts_without_a_session(front, victim):
    form = fields(victim.form("fence"))
    for cookie in ("", f"{victim.cookie}x", victim.cookie[:-5], forged(front, "f" * 32), "__Host-control-1=x"):
        stranger = Client(front)
        stranger.cookie = cookie
        answer = stranger.post("/action/fence", **form)
        assert answer.status == 401 and 'action="/login"' in answer.text


def forged(front: Front, secret: str) -> str:
    """A cookie that is signed, with a token that is not this instance's."""
    return f"{session.cookie_name(front.config.network.control_port)}={session.begin(secret)}"


def test_a_form_of_somebody_else_or_of_another_action(front, victim):
    other = Client(front)
    other.log_in()
    theirs, of_resume = other.form("fence"), victim.form("resume")
    page = victim.form("fence")
    for guard in (theirs.field("guard"), of_resume.field("guard"), "", "0" * 64, page.field("guard")[:-1]):
        answer = victim.post("/action/fence", **fields(page, guard=guard))
        assert (answer.status, answer.problem) == (403, FOREIGN)


@pytest.mark.parametrize("number", ["", "0" * 64, "x", "ü"])
def test_a_number_that_is_none_of_ours(victim, number):
    assert victim.post("/action/fence", **fields(victim.form("fence"), number=number)).status == 409


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "null"},
        {"Sec_Fetch_Site": "same-site", "Origin": "https://127.0.0.1:1"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "https://evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:PORT"},
        {},
    ],
)
def test_another_site_s_form(front, victim, headers):
    """Even with all that only our own page knows."""
    port = str(front.config.network.control_port)
    sent = {name: value.replace("PORT", port) for name, value in headers.items()}
    form = fields(victim.form("fence"))
    answer = victim.ask("POST", "/action/fence", form, **sent)
    assert (answer.status, answer.problem) == (403, FOREIGN)
    if headers:
        answer = Client(front).ask("POST", "/login", {"token": TOKEN}, **sent)
        assert answer.status == 403 and "set-cookie" not in answer.headers


def test_a_program_that_says_where_it_comes_from_is_let_in(front):
    """So the tests above refuse for the origin's sake."""
    origin = f"https://127.0.0.1:{front.config.network.control_port}"
    assert Client(front).ask("POST", "/login", {"token": TOKEN}, Origin=origin).status == 303


WRONG = [TOKEN[:-1] + "0", TOKEN.upper(), TOKEN[1:], "", "x" * 5000, token.read_token(TOKEN), "ü", "0" * 32]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_token(front, wrong):
    answer = Client(front).log_in(wrong)
    assert answer.status == 403 and "set-cookie" not in answer.headers
    assert answer.problem == "That is not the token of this instance: give what takeover-url has behind its #."
    for path in ("/status.json", "/metrics"):
        if wrong == token.read_token(TOKEN):
            continue
        for scheme in ("Bearer ", "Basic ", ""):
            assert Client(front).get(path, Authorization=f"{scheme}{wrong.replace('ü', 'u')}").status == 401


@pytest.mark.parametrize("ask", ["login", "bearer"])
def test_who_gives_many_wrong_tokens_is_not_listened_to(front, ask):
    """Nor to the right one, until a minute has passed; others are."""
    client, refused = Client(front), len(front.said.split("refused: a wrong token"))

    def attempt(secret: str) -> Answer:
        if ask == "login":
            return client.log_in(secret)
        return client.get("/status.json", Authorization=f"Bearer {secret}")

    for _ in range(10):
        assert attempt("0" * 32).status in (401, 403)
    answer = attempt(TOKEN)
    assert answer.status == 429 and answer.headers["retry-after"] == "60"
    assert answer.problem == f"Too many wrong tokens came from {client.address[0]}: wait 60 s, and try again."
    assert Client(front).log_in().status == 303
    told = f"refused: a wrong token from {client.address[0]}, expected the one of takeover-url"
    assert len(front.said.split("refused: a wrong token")) - refused == 10 and told in front.said


def test_nginx_limits_posts(front):
    client = Client(front)
    codes = [client.ask("POST", "/action/fence", {}, **BROWSER).status for _ in range(40)]
    assert codes[0] == 401
    assert 429 in codes


@pytest.mark.parametrize(
    "path",
    ["/../replication/challenge", "/%2e%2e/replication/challenge", "/..%2freplication/challenge", "//replication"]
    + ["/replication/challenge", "/live", "/static/../page.py", "/static/..%2fpage.py", "/static/%2e%2e%2fpage.py"]
    + ["/static/..%252fpage.py", "/static//etc/passwd", "/static/page.py", "/static/", "/action/", "/action/..%2fx"]
    + ["/action/fence/", "/action/Fence", "/control/", "/peer/../status.json/x", "/.well-known/x", "/static/\\..\\page"]
    + [
        "/srv/kept/control-token",
        "/../../../../srv/kept/control-token",
        "/fence",
        "/status.json%00",
        "/login%0d%0aX:y",
    ],
)
def test_paths_that_lead_nowhere(front, victim, path):
    for method in ("GET", "POST"):
        answer = victim.ask(method, path, **({} if method == "GET" else BROWSER))
        assert answer.status in (400, 403, 404, 405), answer.text
        assert "challenge" not in answer.text and "import" not in answer.text and TOKEN not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(victim, method):
    assert victim.ask(method, "/action/fence").status == 405


def test_large_requests(front, victim):
    form = fields(victim.form("fence"), instance="x" * 17_000)
    assert victim.ask("POST", "/action/fence", form, **BROWSER).status == 413
    # Without its length, in pieces.
    port, piece = front.config.network.control_port, b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        unverified().wrap_socket(plain) as connection,
    ):
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + piece + piece)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert victim.get("/", X="y" * 40_000).status in (400, 414)


def test_plain_http_is_no_way_in(front):
    with socket.create_connection(("127.0.0.1", front.config.network.control_port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"login" not in answer


def test_the_socket_behind_nginx_is_the_account_s_alone(front):
    assert front.config.control_socket.stat().st_mode & 0o077 == 0


def test_no_secret_is_in_any_log(front):
    """After all of the above, and after people who put the token where it does not belong."""
    client, read = Client(front), token.read_token(TOKEN)
    client.log_in()
    page = client.form("fence")
    for path in (f"/{TOKEN}", f"/?token={TOKEN}", f"/action/{TOKEN}", f"/static/{TOKEN}", f"/peer/{TOKEN}"):
        client.get(path, Referer=f"https://x/#{TOKEN}", User_Agent=TOKEN)
        client.post(path, token=TOKEN)
    client.post("/action/fence", **fields(page, instance=TOKEN))
    client.get("/metrics", Authorization=f"Bearer {read}")
    client.log_in(f"https://x/#{TOKEN}")
    # nginx writes the line of a request when its answer has been sent.
    wait_for(lambda: "POST /login 303 0" in front.accesses, "the last request in the access log")
    logs = front.logs()
    assert {"nginx-access.log", "others.log"} <= set(logs)
    secrets = (TOKEN, read, client.cookie.partition("=")[2], page.field("guard"), page.field("number"))
    assert [(name, secret) for name, text in logs.items() for secret in secrets if secret in text] == []
    assert "POST - 404" in " ".join(front.accesses)
    assert "fence: asked for on the control page, from" in front.said
