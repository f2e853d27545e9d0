# SPDX-License-Identifier: GPL-2.0-or-later
"""Replicas made of stored physical backups: whole, or not at all, whatever the server of the backups does."""

import dataclasses
import json
import os

import pytest

from slapos.recipe.erp5.errors import BackupError, Unreachable
from slapos.recipe.erp5.mariadb import manifest, new_database, source, space
from tests.service.backup_fixtures import TOKEN, empty_data, new_partition
from tests.service.bootstrap_fixtures import GONE, primary, replica, site

__all__ = ["empty_data", "new_partition", "primary", "replica", "site"]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(source, "PAUSES", (0.01, 0.01, 0.01))


def lines(capfd) -> list[str]:
    return [line.split(" ", 2)[-1] for line in capfd.readouterr().err.splitlines()]


def rewrite(site, change) -> None:
    """Change the entries of the list."""
    manifest.save(site.folder, [change(entry) for entry in manifest.load(site.folder)])


def test_the_newest_chain_becomes_a_database(primary, site, replica):
    note = replica.make(site.url + "#physical")
    newest = primary.chain[-1]
    assert (note.method, note.gtid, note.primary, note.user, note.tls, note.server_version) == (
        "physical",
        newest.gtid,
        "127.0.0.1:20001",
        "replication_user",
        False,
        newest.server_version,
    )
    assert note.started <= note.ended
    assert replica.outside.asked == [newest.gtid]
    assert [name for name, _, _ in site.requests] == ["manifest.json", *(entry.name for entry in primary.chain)]
    assert sorted(os.listdir(replica.config.path("srv"))) == ["backup", "mariadb.new", "tls"]
    assert replica.answers() == primary.answers


def test_a_named_backup_is_taken_with_what_it_continues(primary, site, replica, capfd):
    middle = primary.chain[1]
    note = replica.make(site.url + middle.name)
    assert note.gtid == middle.gtid
    assert [name for name, _, _ in site.requests][1:] == [entry.name for entry in primary.chain[:2]]
    said = lines(capfd)
    assert f"the data directory is made by stored physical {middle.name}, GTID {middle.gtid}" in said
    assert TOKEN not in "".join(said) and "SQL-SECRET" not in "".join(said)
    assert (replica.state().method, replica.state().error) == ("stored physical", "")


def test_the_real_nginx_serves_it(primary, replica):
    partition = primary.partition
    nginx = partition.start_nginx()
    try:
        replica.make(f"http://127.0.0.1:{partition.backup_port}/{TOKEN}/#physical")
    finally:
        nginx.terminate()
        nginx.wait(10)
        partition.config.nginx_pid.unlink(missing_ok=True)
    assert replica.answers() == primary.answers


def test_without_a_kind_what_does_not_work_is_followed_by_the_next(primary, site, replica, capfd):
    assert replica.make(site.url).method == "physical"
    name = primary.chain[-1].name
    assert (
        f"warning: live physical did not work, the primary gives no live copy: the next way is stored physical {name}"
        in lines(capfd)
    )
    for entry in primary.chain:
        (site.folder / entry.name).write_bytes(b"nonsense")
    rewrite(site, lambda entry: dataclasses.replace(entry, size=8) if entry.physical else entry)
    note = replica.make(site.url)
    assert (note.method, note.gtid) == ("dump", primary.dump.gtid)
    assert replica.answers() == primary.answers


# ---- cuts


def test_a_download_that_is_cut_goes_on_where_it_was(primary, site, replica, capfd):
    full = primary.chain[0]
    assert full.size > 1_000_000
    site.cuts = {full.name: [500_000, 300_001, 0]}
    replica.make(site.url + "#physical")
    assert replica.answers() == primary.answers
    asked = [(wanted, size) for name, wanted, size in site.requests if name == full.name]
    assert asked == [
        ("", 500_000),
        ("bytes=500000-", 300_001),
        ("bytes=800001-", 0),
        ("bytes=800001-", full.size - 800_001),
    ]
    assert site.sent(full.name) == full.size  # no byte twice
    assert f"{site.where} goes on with {full.name}" in lines(capfd)


def test_a_server_without_ranges_sends_it_again(primary, site, replica):
    full = primary.chain[0]
    site.cuts, site.ranges = {full.name: [500_000]}, False
    replica.make(site.url + "#physical")
    assert site.sent(full.name) == 500_000 + full.size
    assert replica.answers() == primary.answers


def test_a_server_that_breaks_off_again_and_again_is_not_tried_for_ever(primary, site, replica):
    full = primary.chain[0]
    site.cuts = {full.name: [500_000] + [0] * 99}
    with pytest.raises(Unreachable) as caught:
        replica.make(site.url)
    assert str(caught.value) == (
        f"{site.where} broke off {full.name} after 500000 bytes and does not go on with it (the connection was closed):"
        " see whether it runs, and the network"
    )
    assert len(site.requests) == 1 + 1 + len(source.PAUSES)


def test_a_dead_peer_is_noticed(primary, site, replica, monkeypatch):
    monkeypatch.setattr(source, "TIMEOUT", 0.3)
    full = primary.chain[0]
    site.stall = full.name
    with pytest.raises(Unreachable) as caught:
        replica.make(site.url)
    assert str(caught.value).startswith(f"{site.where} broke off {full.name} after ")
    assert str(caught.value).endswith("does not go on with it (timed out): see whether it runs, and the network")


def test_a_backup_that_is_replaced_meanwhile_is_refused(primary, site, replica):
    full = primary.chain[0]
    site.cuts = {full.name: [500_000]}
    answer = site.answer

    def replaced(request):
        if request.headers.get("Range"):
            content = bytearray((site.folder / full.name).read_bytes())
            content[-1] ^= 1
            (site.folder / full.name).write_bytes(content)
        answer(request)

    site.answer = replaced
    with pytest.raises(BackupError) as caught:
        replica.make(site.url + "#physical")
    assert str(caught.value) == f"{site.where} has another {full.name} than the one that was begun: begin again"


def test_a_server_that_is_down_is_named(site, replica):
    site.end()
    with pytest.raises(Unreachable) as caught:
        replica.make(site.url)
    assert str(caught.value) == (
        f"{site.where} does not answer (Connection refused): see whether it runs, and the network"
    )


# ---- bad backups


def refusal(site, replica, kind="#physical") -> str:
    with pytest.raises(BackupError) as caught:
        replica.make(site.url + kind)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_what_is_not_what_the_list_says_is_refused_until_it_is(primary, site, replica):
    entry = primary.chain[1]
    content = (site.folder / entry.name).read_bytes()
    (site.folder / entry.name).write_bytes(content[:-1])
    assert refusal(site, replica) == (
        f"{site.where} has {entry.size - 1} bytes as {entry.name}, its list says {entry.size}: try again"
    )
    # The sum at the end of what zstd wrote: of a byte further ahead it depends what notices it first.
    (site.folder / entry.name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(site, replica) == (
        f"{entry.name} does not unpack: zstd decompress error: Restored data doesn't match checksum: check the disk"
    )
    (site.folder / entry.name).unlink()
    assert refusal(site, replica) == (
        f"{site.where} has no {entry.name}: give replication.bootstrap-url as the primary publishes it"
    )
    (site.folder / entry.name).write_bytes(content)
    replica.make(site.url + "#physical")
    assert replica.answers() == primary.answers


def test_a_name_that_leaves_the_folder_is_never_asked_for(site, replica):
    path = site.folder / manifest.FILE
    document = json.loads(path.read_text())
    document["backups"][0]["name"] = "../../etc/passwd.zst"
    path.write_text(json.dumps(document))
    assert refusal(site, replica) == (
        f"manifest.json of {site.where} cannot be used as a list of backups: '../../etc/passwd.zst' is no name of a"
        " backup: move it away (the backups stay)"
    )
    assert [name for name, _, _ in site.requests] == ["manifest.json"]


def test_a_list_without_end_is_refused(site, replica):
    (site.folder / manifest.FILE).write_bytes(b" " * (3 << 20))
    assert refusal(site, replica) == (f"the list of backups of {site.where} has more than 1048576 bytes: is it one?")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirection_is_not_followed(site, replica, status):
    site.status = {"manifest.json": status}
    assert refusal(site, replica) == (
        f"{site.where} redirects manifest.json, which is not followed: give the URL that it leads to"
    )


def test_a_newer_series_is_refused_by_name(primary, site, replica):
    rewrite(site, lambda entry: dataclasses.replace(entry, server_version="11.4.2-MariaDB"))
    ours, name = replica.partition, primary.chain[-1].name
    said = refusal(site, replica)
    assert said.startswith(
        f"nothing that {site.where} offers can be used, stored physical {name} is of MariaDB 11.4.2-MariaDB and this"
        " is 10.11."
    )
    assert said.endswith(
        ", which cannot read it: install a release with that version or a newer one: make a new backup there, or"
        " give another replication.bootstrap-url"
    )
    assert not list(ours.folder.glob("srv/mariadb*"))


def test_a_position_that_is_gone_is_refused_before_anything_is_fetched(primary, site, replica):
    replica.outside.refused = {"*": GONE}
    newest = primary.chain[-1]
    assert refusal(site, replica) == (
        f"nothing that {site.where} offers can be used, 127.0.0.1:20001 cannot be followed from stored physical"
        f" {newest.name}, whose GTID position is {newest.gtid} ({GONE}): make a new backup there, or give another"
        " replication.bootstrap-url"
    )
    assert [name for name, _, _ in site.requests] == ["manifest.json"]


def test_a_disk_without_room_is_not_begun_with(site, replica, monkeypatch):
    monkeypatch.setattr(space, "free", lambda folder: new_database.reserve(replica.config))
    said = refusal(site, replica)
    assert said.startswith(f"168.0 MiB are free in {replica.config.path('srv')}, the backup unpacks to ")
    assert said.endswith(", and a database takes 168.0 MiB besides: free disk space")
    assert [name for name, _, _ in site.requests] == ["manifest.json"]
