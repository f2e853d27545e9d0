# SPDX-License-Identifier: GPL-2.0-or-later
"""A port is chosen free and from the partition's own class, kept for ever, and refused in one sentence."""

import socket
import stat
from typing import Any

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import port


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    monkeypatch.setattr(port, "_given", {})


@pytest.fixture
def listening():
    """A socket that listens on 127.0.0.1, as a service would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def chosen(storage, requested: Any = "", *, partition: str = "slappart3", name: str = "port", **options: Any) -> str:
    options = {
        "range": "20000-21999",
        "ip": "127.0.0.1",
        "parameter": "tcpv4-port",
        "requested": requested,
        "storage-path": str(storage / partition / name),
        **options,
    }
    recipe = initialised(options, partition)
    assert recipe.install() == ()
    return options["port"]


def initialised(options: dict[str, Any], partition: str) -> port.Recipe:
    return port.Recipe({"buildout": {"directory": f"/srv/{partition}"}}, "mariadb-port", options)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        chosen(*arguments, **options)
    return str(error.value)


def test_the_choice_is_kept_in_a_private_file(tmp_path):
    number = chosen(tmp_path)
    path = tmp_path / "slappart3" / "port"
    assert path.read_text() == f"{number}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert chosen(tmp_path, range="30000-30999") == number


@pytest.mark.parametrize("nothing", ["", None, " "])
def test_a_port_is_chosen_when_none_is_requested(tmp_path, nothing):
    assert int(chosen(tmp_path, nothing)) % 500 == 3


def test_nothing_is_written_before_the_part_is_installed(tmp_path):
    storage = tmp_path / "srv" / "port"
    options = {"range": "20000-21999", "ip": "127.0.0.1", "parameter": "tcpv4-port", "storage-path": str(storage)}
    first = initialised(options, "slappart3")
    second = initialised(other := options | {"storage-path": str(tmp_path / "other")}, "slappart3")
    assert list(tmp_path.iterdir()) == [] and other["port"] != options["port"]
    second.update()
    first.update()
    assert storage.read_text() == options["port"] + "\n"
    # A request that some other section refuses is initialised only.
    initialised(options | {"requested": 20765}, "slappart3")
    assert chosen(tmp_path, **{"storage-path": str(storage)}) == options["port"]


@pytest.mark.parametrize("requested", ["20765", 20765, " 20765\n"])
def test_a_requested_port_is_taken_and_kept(tmp_path, requested):
    assert chosen(tmp_path, requested) == "20765"
    assert chosen(tmp_path, "") == "20765"


def test_another_requested_port_replaces_the_kept_one(tmp_path):
    chosen(tmp_path)
    assert chosen(tmp_path, 20765) == "20765"
    assert chosen(tmp_path, 20766) == "20766"


def test_the_kept_port_may_be_in_use_as_its_service_listens(tmp_path, listening):
    storage = tmp_path / "slappart3" / "port"
    storage.parent.mkdir()
    storage.write_text(str(listening))
    assert chosen(tmp_path) == chosen(tmp_path, listening) == str(listening)


def test_a_requested_port_in_use_is_refused(tmp_path, listening):
    assert refusal(tmp_path, listening) == (
        f"tcpv4-port: {listening} is already in use on 127.0.0.1;"
        " give a free port, or leave the parameter out to have one chosen."
    )
    assert not (tmp_path / "slappart3").exists()


def test_every_address_is_tried(tmp_path, listening):
    assert refusal(tmp_path, listening, ip="127.0.0.2\n127.0.0.1").startswith(
        f"tcpv4-port: {listening} is already in use on 127.0.0.1;"
    )
    assert chosen(tmp_path, listening, ip={"127.0.0.2"}) == str(listening)


def test_ipv6_is_another_address():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        number = server.getsockname()[1]
        assert port.busy_address(number, ["127.0.0.1", "::1"]) == "::1"
        assert port.busy_address(number, ["127.0.0.1"]) is None


def test_what_a_closed_connection_leaves_behind_does_not_matter(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", number))
        connection, _ = server.accept()
        # The side that closes first is the one that waits.
        connection.close()
        assert client.recv(1) == b""
        client.close()
    assert chosen(tmp_path, number) == str(number)


@pytest.mark.parametrize("requested", [80, 1023, 65536, "-1", "0", "3306x", "many", True, 1.5, "٣٣٠٦"])
def test_what_is_no_port_is_refused(tmp_path, requested):
    assert refusal(tmp_path, requested) == (
        f"tcpv4-port: {requested} is not a port between 1024 and 65535;"
        " give one, or leave the parameter out to have one chosen."
    )


def test_an_address_of_another_machine_is_refused(tmp_path):
    assert refusal(tmp_path, ip="192.0.2.1") == "No port can be had on 192.0.2.1: Cannot assign requested address."


def test_partitions_never_choose_the_same_port(tmp_path):
    partitions = [f"slappart{number}" for number in range(500)]
    assert len({chosen(tmp_path, partition=partition) for partition in partitions}) == 500


def test_services_of_one_partition_never_choose_the_same_port(tmp_path):
    assert len({chosen(tmp_path, name=name) for name in "abc"}) == 3
    taken = chosen(tmp_path, name="a")
    assert refusal(tmp_path, taken, name="d").startswith(f"tcpv4-port: {taken} is already in use on 127.0.0.1;")


def test_classes_of_ports_are_disjoint():
    classes = [set(port.candidates("20000-21999", f"slappart{number}")) for number in range(500)]
    assert sum(map(len, classes)) == len(set().union(*classes)) == 2000
    assert list(port.candidates("20000-21250", "slappart42")) == [20042, 20542, 21042]
    assert list(port.candidates("20000-20009", "slappart12")) == [20002]


def test_a_partition_without_number_has_a_class_too():
    assert port.partition_index("database") == port.partition_index("database")
    assert port.partition_index("database") != port.partition_index("zope")
    assert port.partition_index("node2-slappart15") == 15


def test_the_next_port_is_chosen_when_one_is_busy(tmp_path, listening):
    number = int(chosen(tmp_path, range=f"{listening}-{listening + 1500}", partition="slappart0"))
    assert number in range(listening + 500, listening + 1501, 500)


def test_a_range_without_free_port_is_refused(tmp_path, listening):
    assert refusal(tmp_path, range=f"{listening}-{listening}") == (
        f"tcpv4-port: none of the ports of {listening}-{listening} that partition slappart3 may use is free"
        " on 127.0.0.1; give a free port in the parameter."
    )


def test_a_damaged_file_is_not_overwritten(tmp_path):
    storage = tmp_path / "slappart3" / "port"
    storage.parent.mkdir()
    storage.write_text("what?")
    assert refusal(tmp_path) == f"{storage} should hold a port but does not; remove it to have a port chosen."
    assert storage.read_text() == "what?"


def test_a_service_may_take_several_ports_in_a_row(tmp_path):
    neighbours = [int(chosen(tmp_path, partition=f"slappart{number}", width="2")) for number in range(3)]
    assert [port % 1000 for port in neighbours] == [0, 2, 4]
    assert list(port.candidates("20000-21999", "slappart499", 2)) == [20998, 21998]
    assert list(port.candidates("20000-21999", "slappart500", 2)) == [20000, 21000]


def test_each_port_of_a_row_has_to_be_free(tmp_path, listening):
    ports = f"{listening - 1}-{listening}"
    assert "none of the ports of" in refusal(tmp_path, range=ports, width="2", partition="slappart0")
