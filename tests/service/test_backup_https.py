# SPDX-License-Identifier: GPL-2.0-or-later
"""nginx with its real configuration and TLS: only replication clients of its own authority get anything."""

import json
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slapos.recipe.erp5.mariadb import manifest, offer
from slapos.recipe.erp5.tls import files
from slapos.recipe.erp5.tls.files import Files
from tests.service.authority import Authority, client_context
from tests.service.backup_fixtures import TOKEN, Partition, new_partition, wait_until
from tests.service.test_backup_http import ONE, TWO, ask, raw
from tests.unit.mariadb import partition as unit

__all__ = ["new_partition"]

HOSTS = ("127.0.0.1", "::1")
LIVE = f"/{TOKEN}/live"
SUBJECT = "its subject has to be CN=slapos-replication-client"
REQUIRED = b"a client certificate is required: give a replication client's of this server's authority\n"
REVOKED = b"the client certificate was revoked: get another one\n"
WRONG = b"the client certificate does not hold: get one from this server's authority\n"
NOT_A_CLIENT = f"the client certificate is not a replication client's: {SUBJECT}\n".encode()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def served(new_partition, authority) -> Partition:
    """A partition with two offered backups, and nginx with TLS on IPv4 and IPv6."""
    partition = new_partition(ipv6="::1")
    unit.add_backups(partition.config, 2)
    offer.update(partition.config)
    authority.install(partition.config.tls, *HOSTS)
    partition.nginx = partition.start_nginx()
    return partition


def context(partition: Partition, pem: str | None = None, tmp_path: Path | None = None) -> ssl.SSLContext:
    """A client with the certificate `pem`, of which `tmp_path` gets a file, or with none."""
    if pem:
        (tmp_path / "client.pem").write_text(pem)
    return client_context(Files(partition.config.tls).ca, tmp_path / "client.pem" if pem else None)


def right(partition: Partition) -> ssl.SSLContext:
    """A client with a replication client's certificate."""
    where = Files(partition.config.tls)
    return client_context(where.ca, where.client)


@pytest.mark.parametrize("host", HOSTS)
def test_a_replication_client_gets_what_is_listed(served, host):
    status, headers, body = ask(served, f"/{TOKEN}/", host=host, context=right(served))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert manifest.parse(body.decode(), "M") == (ONE, TWO)
    path, content = f"/{TOKEN}/{TWO.name}", unit.content(TWO)
    assert ask(served, path, host=host, context=right(served))[2] == content
    status, headers, body = ask(served, path, "Range: bytes=10-19", host=host, context=right(served))
    assert (status, headers["content-range"], body) == (206, f"bytes 10-19/{TWO.size}", content[10:20])
    assert ask(served, f"/{TOKEN}/none", host=host, context=right(served))[0] == 404


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", [f"/{TOKEN}/", f"/{TOKEN}/manifest.json", f"/{TOKEN}/{TWO.name}"])
def test_nobody_without_a_certificate(served, path, host):
    assert ask(served, path, host=host, context=context(served))[::2] == (403, REQUIRED)


def refused(partition: Partition, context: ssl.SSLContext, sentence: bytes) -> None:
    for path, method in ((f"/{TOKEN}/", "GET"), (f"/{TOKEN}/{TWO.name}", "GET"), (LIVE, "POST")):
        assert ask(partition, path, "Content-Length: 0", method=method, context=context)[::2] == (403, sentence)


def test_no_certificate(served):
    refused(served, context(served), REQUIRED)


def test_another_authority_of_the_same_name(served, tmp_path):
    refused(served, context(served, Authority().issue(files.CLIENT_NAME), tmp_path), WRONG)


@pytest.mark.parametrize("name", ["mariadb", "slapos-replication-client2", "x,CN=slapos-replication-client"])
def test_another_subject(served, authority, tmp_path, name):
    refused(served, context(served, authority.issue(name), tmp_path), NOT_A_CLIENT)


def test_a_server_is_no_client(served, authority, tmp_path):
    refused(served, context(served, authority.issue(files.CLIENT_NAME, *HOSTS), tmp_path), WRONG)


def test_revoked(served, tmp_path):
    """From the moment that nginx has read the new list; other certificates go on."""
    authority, where = Authority(), Files(served.config.tls)
    authority.install(where.folder, *HOSTS)
    pem = authority.issue(files.CLIENT_NAME)
    reload(served)
    client = context(served, pem, tmp_path)
    assert ask(served, f"/{TOKEN}/", context=client)[0] == 200
    authority.revoke(pem)
    where.crl.write_text(authority.crl())
    reload(served)
    refused(served, client, REVOKED)
    assert ask(served, f"/{TOKEN}/", context=right(served))[0] == 200


def reload(partition: Partition) -> None:
    """Let nginx read its files anew, and wait until nobody is left who has not."""
    master = psutil.Process(partition.nginx.pid)
    before = set(master.children())
    master.send_signal(signal.SIGHUP)
    wait_until(lambda: (now := set(master.children())) and not now & before, "a new worker alone")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_not_resumed(served, version):
    """Else a certificate would hold on after it was revoked."""
    client = right(served)
    client.minimum_version = client.maximum_version = version
    session, resumed = talk(served, client, None)
    assert not resumed
    assert not talk(served, client, session)[1]


def talk(partition: Partition, client: ssl.SSLContext, session: ssl.SSLSession | None):
    """One request, in a session of before when given; its session, and whether it was that one."""
    with (
        socket.create_connection(("127.0.0.1", partition.backup_port), 30) as connection,
        client.wrap_socket(connection, server_hostname="127.0.0.1", session=session) as encrypted,
    ):
        encrypted.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while encrypted.recv(4096):
            pass
        return encrypted.session, encrypted.session_reused


@pytest.mark.parametrize("host", HOSTS)
def test_no_plain_http(served, host):
    code, _, body = ask(served, f"/{TOKEN}/", host=host)
    assert code == 400 and b"plain HTTP request was sent to HTTPS port" in body


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_no_old_tls(served):
    client = right(served)
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        ask(served, f"/{TOKEN}/", context=client)


def test_who_has_the_token_wrong_is_told_nothing(served):
    assert ask(served, "/x/", context=context(served))[0] == 404
    assert ask(served, "/x/live", "Content-Length: 0", method="POST", context=context(served))[0] == 405


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_live_is_posted(served, method):
    assert ask(served, LIVE, "Content-Length: 0", method=method, context=right(served))[0] == 405


# ---- what goes to mariadb-control

ANSWER = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a": 1}'


@pytest.fixture
def control(served) -> Iterator[Partition]:
    """The same, and a socket in mariadb-control's place."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(served.config.control_socket))
        listener.listen()
        served.listener = listener
        yield served


def passed_on(partition: Partition, method: str, path: str, body: str, client: ssl.SSLContext) -> bytes:
    """What mariadb-control is asked when nginx is asked this; its answer has to come back."""
    asked: list[bytes] = []

    def answer() -> None:
        connection, _ = partition.listener.accept()
        with connection:
            connection.settimeout(30)
            while b"\r\n\r\n" not in b"".join(asked) or not b"".join(asked).endswith(body.encode()):
                asked.append(connection.recv(1 << 16))
            connection.sendall(ANSWER)

    head = f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    thread = threading.Thread(target=answer)
    thread.start()
    assert raw(partition, (head + body).encode(), context=client)[::2] == (200, b'{"a": 1}')
    thread.join(30)
    return b"".join(asked)


def test_a_replica_without_a_certificate_asks_for_one(control):
    asked = passed_on(control, "GET", "/replication/challenge", "", context(control))
    assert asked.startswith(b"GET /replication/challenge HTTP/1.")
    body = json.dumps({"csr": "x" * 5000})
    asked = passed_on(control, "POST", "/replication/certificate", body, context(control))
    assert asked.startswith(b"POST /replication/certificate HTTP/1.")


def test_live_is_passed_on_without_the_token(control):
    asked = passed_on(control, "POST", LIVE, "", right(control))
    assert asked.startswith(b"POST /live HTTP/1.") and TOKEN.encode() not in asked


@pytest.mark.parametrize(
    "path",
    ["/live", "/replication/live", "/replication/../live", "/replication/%2e%2e/live", "/replication//live"]
    + ["/replication/challenge/../../live", "//live", "/%6cive", "/replication/", "/replication/challenge/"],
)
def test_nothing_else_is_passed_on(control, path):
    for method in ("GET", "POST"):
        code = ask(control, path, "Content-Length: 0", method=method, context=right(control))[0]
        assert code in (400, 404, 405)
    control.listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        control.listener.accept()


def test_a_large_request_for_a_certificate(control):
    code = ask(control, "/replication/certificate", "Content-Length: 70000", method="POST", context=context(control))[0]
    assert code == 413


def test_too_many_requests_for_a_certificate(served):
    """There is nobody to answer here (502), and after so many of them nobody is asked."""
    codes = [ask(served, "/replication/challenge", context=context(served))[0] for _ in range(60)]
    assert codes[0] == 502
    assert codes[-1] == 429


def test_no_token_in_any_log(served):
    for client in (right(served), context(served)):
        for path in (LIVE, f"/{TOKEN}/", f"/{TOKEN}/{ONE.name}", f"/{TOKEN}/x"):
            for method in ("GET", "POST"):
                ask(served, path, f"Referer: {TOKEN}", "Content-Length: 0", method=method, context=client)
    served.nginx.terminate()
    served.nginx.wait(30)
    logs = {path.name: path.read_text() for path in Path(served.directory["log"]).iterdir()}
    assert sorted(logs) == ["nginx-access.log", "nginx-error.log"]
    assert re.search(rf"^127\.0\.0\.1 \[[^]]+\] GET {ONE.name} 200 {ONE.size}$", logs["nginx-access.log"], re.M)
    assert re.search(r"^127\.0\.0\.1 \[[^]]+\] POST live 502 \d+$", logs["nginx-access.log"], re.M)
    assert not [text for text in logs.values() if TOKEN in text]


def test_curl_gets_it(served, tmp_path):
    where = Files(served.config.tls)
    url = f"https://127.0.0.1:{served.backup_port}/{TOKEN}/{TWO.name}"
    (tmp_path / "f").write_bytes(unit.content(TWO)[:50])
    command = ["curl", "-fsS", "-C", "-", "--cacert", where.ca, "--cert", where.client, "-o", tmp_path / "f", url]
    subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "f").read_bytes() == unit.content(TWO)
