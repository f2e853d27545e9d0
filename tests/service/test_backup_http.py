# SPDX-License-Identifier: GPL-2.0-or-later
"""nginx with its real configuration and TLS off: it serves the listed backups, and nothing else to nobody."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from slapos.recipe.erp5.mariadb import manifest, offer
from tests.service.backup_fixtures import TOKEN, Partition, empty_data, new_partition, wait_until
from tests.unit.mariadb import partition as unit

__all__ = ["empty_data", "new_partition"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def served(new_partition) -> Partition:
    """A partition with two offered backups, an unlisted file beside them, and nginx on IPv4 and, with TLS, on IPv6."""
    partition = new_partition(ipv6="::1", tls=False)
    unit.add_backups(partition.config, 2)
    offer.update(partition.config)
    (partition.config.dumps / "20200101T000000Z.sql.zst").write_bytes(b"SECRET")
    partition.nginx = partition.start_nginx()
    return partition


def raw(
    partition: Partition, request: bytes, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send these very bytes, over TLS with a `context`; the answer's status, headers (lower-case names) and body."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((host, partition.backup_port), 30))
        if context:
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
        connection.sendall(request)
        content = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def ask(partition: Partition, path: str, *headers: str, method: str = "GET", host: str = "127.0.0.1", context=None):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    return raw(partition, "\r\n".join(lines).encode("latin1"), host, context)


ONE, TWO = unit.entry(1), unit.entry(2)


def test_physical_backups_are_in_the_same_list(served):
    full, incremental = unit.add_chain(served.config, 5, 1)
    offer.update(served.config)
    assert manifest.parse(ask(served, f"/{TOKEN}/")[2].decode(), "M") == (ONE, TWO, full, incremental)
    for entry in (full, incremental):
        status, headers, body = ask(served, f"/{TOKEN}/{entry.name}")
        assert (status, headers["content-type"], body) == (200, "application/zstd", unit.content(entry))
    (served.config.physical_backups / "20200101T000000Z.full.zst").write_bytes(b"SECRET")
    assert ask(served, f"/{TOKEN}/20200101T000000Z.full.zst")[0] == 404


def test_the_list_and_what_it_lists(served):
    for path in (f"/{TOKEN}/", f"/{TOKEN}/manifest.json"):
        status, headers, body = ask(served, path)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert manifest.parse(body.decode(), "M") == (ONE, TWO)
    for entry in (ONE, TWO):
        status, headers, body = ask(served, f"/{TOKEN}/{entry.name}")
        assert (status, headers["content-type"], body) == (200, "application/zstd", unit.content(entry))


def test_a_part_of_a_file(served):
    content = unit.content(TWO)
    status, headers, body = ask(served, f"/{TOKEN}/{TWO.name}", "Range: bytes=10-19")
    assert (status, headers["content-range"], body) == (206, f"bytes 10-19/{TWO.size}", content[10:20])
    assert ask(served, f"/{TOKEN}/{TWO.name}", "Range: bytes=90-")[2] == content[90:]
    assert ask(served, f"/{TOKEN}/{TWO.name}", "Range: bytes=5000-")[0] == 416


def test_head(served):
    status, headers, body = ask(served, f"/{TOKEN}/{ONE.name}", method="HEAD")
    assert (status, headers["content-length"], headers["accept-ranges"], body) == (200, str(ONE.size), "bytes", b"")


def test_no_version_is_told(served):
    for path in (f"/{TOKEN}/", "/"):
        assert ask(served, path)[1]["server"] == "nginx"
        assert b"nginx/" not in ask(served, path)[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "MOVE"])
def test_other_methods(served, method):
    assert ask(served, f"/{TOKEN}/{ONE.name}", "Content-Length: 0", method=method)[0] == 405
    assert unit.content(ONE) == (served.config.offered / ONE.name).read_bytes()


NAME = ONE.name
PATHS = [
    "/",
    "/manifest.json",
    f"/{NAME}",
    f"/{TOKEN}",
    f"/{TOKEN}x/",
    f"/{TOKEN[:-1]}/",
    f"/{TOKEN.upper()}/{NAME}",
    f"/x/{NAME}",
    f"//{NAME}",
    f"/{TOKEN}/{NAME}/",
    f"/{TOKEN}/{NAME}/x",
    f"/{TOKEN}/20200101T000000Z.sql.zst",
    f"/{TOKEN}/20261103T000000Z.sql.zst",
    f"/{TOKEN}/..",
    f"/{TOKEN}/../",
    f"/{TOKEN}/../mariadb-full/{NAME}",
    f"/{TOKEN}/..%2fmariadb-full%2f{NAME}",
    f"/{TOKEN}/%2e%2e/mariadb-full/{NAME}",
    f"/{TOKEN}/{NAME}/../../../etc/mariadb.json",
    f"/{TOKEN}/....//....//etc/mariadb.json",
    f"/{TOKEN}../mariadb-full/{NAME}",
    f"/{TOKEN}../../../etc/mariadb.json",
    f"/{TOKEN}/../../../../../../../../etc/passwd",
    f"/{TOKEN}/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/mariadb.json",
    f"/{TOKEN}/live/",
    "/live",
    "/replication/challenge",
    f"/{TOKEN}/..\\..\\etc\\mariadb.json",
    f"/{TOKEN}/%5c..%5cmanifest.json",
    f"/{TOKEN}/.manifest.json.x",
    f"/{TOKEN}/manifest.json%00",
    f"/{TOKEN}/manifest.json%0a",
    f"/{TOKEN}/manifest.json.",
    f"/{TOKEN}/%252e%252e/etc/mariadb.json",
    f"/{TOKEN}/..;/etc/mariadb.json",
    "/../../../etc/passwd",
    "/.%2e/%2e./etc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
    "",
    "*",
    "etc/passwd",
    f"http://x/{TOKEN[:-1]}/manifest.json",
]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_else_is_there(served, path):
    status, _, body = ask(served, path)
    assert status in (400, 404)
    for secret in (b"SECRET", b"ADMINISTRATOR", b"root:", TOKEN.encode(), NAME.encode(), unit.content(ONE)):
        assert secret not in body


def test_a_path_with_a_detour_is_the_plain_one(served):
    """nginx resolves dots and doubled slashes before it looks, so these are no other files."""
    for path in (f"/{TOKEN}/x/../{NAME}", f"//{TOKEN}//{NAME}", f"/{TOKEN}/{NAME}?a=1", f"/{TOKEN}/%32{NAME[1:]}"):
        assert ask(served, path)[2] == unit.content(ONE)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET " + b"/a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
    ],
)
def test_what_is_no_proper_request(served, request_):
    with socket.create_connection(("127.0.0.1", served.backup_port), 30) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert re.match(rb"HTTP/1\.1 (4\d\d|505) |<html>\r\n<head><title>400 ", answer) or answer == b""
    assert ask(served, f"/{TOKEN}/")[0] == 200


def test_a_link_in_the_folder_is_not_followed(served):
    (served.config.offered / "20200102T000000Z.sql.zst").symlink_to(served.json)
    (served.config.offered / "20200103T000000Z.sql.zst").mkdir()
    for day in ("02", "03"):
        status, _, body = ask(served, f"/{TOKEN}/202001{day}T000000Z.sql.zst")
        assert status in (403, 404, 301) and b"ADMINISTRATOR" not in body


def test_a_file_that_is_removed_is_gone_and_one_that_is_added_is_there(served):
    manifest.save(served.config.dumps, [TWO])
    offer.update(served.config)
    assert ask(served, f"/{TOKEN}/{ONE.name}")[0] == 404
    assert manifest.parse(ask(served, f"/{TOKEN}/")[2].decode(), "M") == (TWO,)
    manifest.save(served.config.dumps, [ONE, TWO])
    offer.update(served.config)
    assert ask(served, f"/{TOKEN}/{ONE.name}")[2] == unit.content(ONE)


def test_no_token_in_any_log(served):
    (served.config.offered / TWO.name).chmod(0)  # one that makes nginx complain
    (served.config.offered / "20200102T000000Z.sql.zst").symlink_to(served.json)
    for path in [*PATHS, f"/{TOKEN}/{ONE.name}", f"/{TOKEN}/{TWO.name}", f"/{TOKEN}/20200102T000000Z.sql.zst"]:
        ask(served, path, f"Referer: http://x/{TOKEN}/", f"User-Agent: {TOKEN}")
    ask(served, f"/{TOKEN}/?{TOKEN}", f"Range: {TOKEN}")
    raw(served, f"GET /{TOKEN}/ HTTP/1.1\r\nHost: {TOKEN}\r\nHost: {TOKEN}\r\n\r\n".encode())
    raw(served, f"{TOKEN} /{TOKEN}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    served.nginx.terminate()
    served.nginx.wait(30)
    logs = {path.name: path.read_text() for path in Path(served.directory["log"]).iterdir()}
    assert sorted(logs) == ["nginx-access.log", "nginx-error.log"]
    lines = logs["nginx-access.log"].splitlines()
    assert len(lines) >= len(PATHS)
    assert re.search(rf"^127\.0\.0\.1 \[[^]]+\] GET {ONE.name} 200 {ONE.size}$", logs["nginx-access.log"], re.M)
    assert not [text for text in logs.values() if TOKEN in text]


def test_it_reloads_its_configuration(served):
    master = int(served.config.nginx_pid.read_text())
    assert (ask(served, f"/{TOKEN}/")[0], ask(served, "/another/")[0]) == (200, 404)
    configuration = served.folder / "etc/nginx.conf"
    configuration.write_text(configuration.read_text().replace(TOKEN, "another"))
    os.kill(master, signal.SIGHUP)
    wait_until(lambda: ask(served, "/another/")[0] == 200, "the new token")
    wait_until(lambda: ask(served, f"/{TOKEN}/")[0] == 404, "the end of the old token")
    assert served.nginx.poll() is None and int(served.config.nginx_pid.read_text()) == served.nginx.pid


def test_curl_gets_it(served, tmp_path):
    if shutil.which("curl") is None:
        raise AssertionError("this test needs curl: install the Debian package curl")
    url = f"http://127.0.0.1:{served.backup_port}/{TOKEN}/{TWO.name}"
    (tmp_path / "f").write_bytes(unit.content(TWO)[:50])
    subprocess.run(["curl", "-fsS", "-C", "-", "-o", tmp_path / "f", url], check=True, timeout=30)
    assert (tmp_path / "f").read_bytes() == unit.content(TWO)


def test_the_configuration_is_for_nobody_else_and_names_what_the_manifest_allows(served):
    path = served.folder / "etc/nginx.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    # Both patterns in it, the one that serves and the one that logs, are the manifest's.
    assert path.read_text().count(rf"manifest\.json|{manifest.NAME_PATTERN})\z") == 2


def test_it_listens_where_it_is_told(served, new_partition):
    alone = new_partition(tls=False)
    alone.start_nginx()
    assert ask(alone, "/")[0] == 404
    with pytest.raises(ConnectionRefusedError):
        ask(alone, "/", host="::1")
    with pytest.raises(ConnectionRefusedError):
        ask(served, "/", host="127.0.0.2")
