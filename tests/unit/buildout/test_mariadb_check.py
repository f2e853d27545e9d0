# SPDX-License-Identifier: GPL-2.0-or-later
"""What the schema cannot say of a MariaDB instance's parameters, said in one sentence."""

import pytest
from zc.buildout import UserError

from slapos.recipe.erp5.buildout import mariadb_check
from slapos.recipe.erp5.buildout.mariadb_check import Recipe

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with 4 GiB of memory, and 2 GiB free on the disk of every folder that exists."""

    def free(folder):
        assert folder.is_dir()
        return 2 * GIB

    monkeypatch.setattr(mariadb_check, "physical_memory", lambda: 4 * GIB)
    monkeypatch.setattr(mariadb_check, "free", free)


def parameters(periodicity="daily", character_set="utf8mb4", collation="utf8mb4_general_ci", physical="daily", **more):
    return {
        "backup": {"logical": {"periodicity": periodicity}, "physical": {"periodicity": physical}},
        "character-set-server": character_set,
        "collation-server": collation,
        "innodb-buffer-pool-size": 128 << 20,
        "innodb-log-file-size": 96 << 20,
    } | {name.replace("_", "-"): value for name, value in more.items()}


def check(values, data_directory):
    Recipe({}, "parameters", {"configuration": values, "data-directory": str(data_directory)})


def refusal(values, data_directory):
    with pytest.raises(UserError) as refused:
        check(values, data_directory)
    return str(refused.value)


@pytest.mark.parametrize(
    "right",
    [
        parameters(),
        parameters("hourly"),
        parameters("30 2 * * 1-5"),
        parameters("daily", "binary", "binary"),
        parameters("daily", "latin1", "latin1_general_cs"),
        parameters("daily", "utf8mb4", "utf8mb4_uca1400_ai_ci"),
        parameters("daily", "utf8mb3", "utf8mb3_uca1400_spanish2_nopad_as_cs"),
        parameters(innodb_buffer_pool_size=4 * GIB, innodb_log_file_size=2 * GIB),
    ],
)
def test_right_parameters_are_accepted(right, tmp_path):
    check(right, tmp_path / "srv" / "mariadb")


def test_a_collation_of_another_character_set_is_refused(tmp_path):
    assert refusal(parameters(collation="latin1_bin"), tmp_path) == (
        "collation-server: latin1_bin does not belong to character-set-server, which is utf8mb4; "
        "give one that begins with utf8mb4_."
    )


@pytest.mark.parametrize(
    ("character_set", "collation", "near"),
    [
        ("utf8mb4", "utf8mb4_generall_ci", "utf8mb4_general_ci"),
        ("utf8mb4", "utf8mb4_general_mysql500_ci", "utf8mb4_general_ci"),
        ("latin1", "latin1", "latin1_bin"),
    ],
)
def test_a_collation_that_does_not_exist_is_refused(tmp_path, character_set, collation, near):
    assert refusal(parameters("daily", character_set, collation), tmp_path) == (
        f"collation-server: {collation} is not a collation that this release's MariaDB knows; "
        f"give one that it knows, such as {near}."
    )


def test_a_schedule_that_is_none_is_refused(tmp_path):
    assert refusal(parameters("sometimes"), tmp_path).startswith("backup.logical.periodicity is 'sometimes', ")


def test_more_memory_than_the_machine_has_is_refused(tmp_path):
    assert refusal(parameters(innodb_buffer_pool_size=10**15), tmp_path) == (
        "innodb-buffer-pool-size: 1000000000000000 bytes are more than the machine's memory, 4294967296 bytes; "
        "give less."
    )


@pytest.mark.parametrize("exists", [False, True])
def test_a_redo_log_larger_than_the_disk_is_refused(tmp_path, exists):
    folder = tmp_path / "srv" / "mariadb"
    if exists:
        folder.mkdir(parents=True)
        (folder / "ib_logfile0").write_bytes(b"\0" * 4096)
    assert refusal(parameters(innodb_log_file_size=2 * GIB + 1), folder) == (
        "innodb-log-file-size: 2147483649 bytes are more than what is free on the partition's disk, 2.0 GiB; "
        "give less, or free some space."
    )


@pytest.mark.parametrize("more", [0, 1, 4095])
def test_the_redo_log_that_there_is_is_accepted_on_a_full_disk(tmp_path, monkeypatch, more):
    monkeypatch.setattr(mariadb_check, "free", lambda _: 0)
    (tmp_path / "ib_logfile0").write_bytes(b"\0" * 8192)
    check(parameters(innodb_log_file_size=8192 + more), tmp_path)
    assert "innodb-log-file-size: " in refusal(parameters(innodb_log_file_size=8192 + 4096), tmp_path)


def test_the_machine_has_memory():
    with open("/proc/meminfo") as file:
        kib = int(file.readline().split()[1])
    assert abs(REAL_MEMORY() - kib * 1024) < 1 << 20


REAL_MEMORY = mariadb_check.physical_memory


def test_a_physical_schedule_that_is_none_is_refused(tmp_path):
    assert refusal(parameters(physical="sometimes"), tmp_path).startswith(
        "backup.physical.periodicity is 'sometimes', "
    )
