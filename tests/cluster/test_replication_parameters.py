# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters of replication that change, go, or come after the database is there change no byte of it, and no state."""

from tests.cluster.replicas import contents, replica
from tests.cluster.test_promises import assert_left_alone

RUNS = 3
"""test_promises.py has ten of a promise that fails."""


def said(instance):
    return instance.promises()["mariadb-replication"]


def test_changed_removed_and_set_again(node, source, second):
    with replica(node, "steady", source, "live") as copy:
        original, pid, before = copy.parameters, copy.pid(), contents(copy)
        copy.request(copy.replica_of(second))
        node.process_only(copy)
        failed, message = said(copy)
        assert failed and message.startswith("Mariadb replicates from "), message
        assert_left_alone(node, copy, lambda: said(copy)[0], RUNS)
        copy.request({})
        node.process_only(copy)
        failed, message = said(copy)
        assert failed and message.startswith("Mariadb is in replica mode, with "), message
        assert_left_alone(node, copy, lambda: said(copy)[0], RUNS)
        copy.request(original)
        node.process_only(copy)
        assert not said(copy)[0]
        assert (copy.pid(), contents(copy)) == (pid, before)
        copy.wait_for_row_of(source)


def test_set_on_a_primary_with_data(node, source, second):
    pid, parameters = second.pid(), second.parameters
    second.sql(
        "CREATE DATABASE IF NOT EXISTS mine", "CREATE TABLE mine.kept (i INT)", "INSERT INTO mine.kept VALUES (1)"
    )
    try:
        second.request(parameters | second.replica_of(source, ""))
        node.process_only(second)
        failed, message = said(second)
        assert failed and message.startswith("Mariadb is not in replica mode"), message
        assert second.sql("SELECT * FROM mine.kept") == ((1,),)
        assert_left_alone(node, second, lambda: said(second)[0], RUNS)
        assert (second.pid(), second.slave_status()) == (pid, {})
        second.sql("INSERT INTO mine.kept VALUES (2)")
    finally:
        second.request(parameters)
        node.process_only(second)
        second.sql("DROP DATABASE mine")
    second.wait_until_green()
