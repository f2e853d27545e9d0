# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica from a live copy: one request with what the primary publishes, over TLS, with Mroonga and its index."""

from tests.cluster.replicas import assert_same_data, replica


def test_it_becomes_a_replica_of_what_the_primary_has_now(node, either_source):
    with replica(node, "live", either_source, "") as copy:
        assert copy.bootstrapped()["method"] == "live"
        assert_same_data(copy, either_source)
        status = copy.slave_status()
        assert (status["Master_SSL_Allowed"], status["Master_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
        assert (status["Using_Gtid"], status["Slave_IO_Running"], status["Slave_SQL_Running"]) == (
            "Slave_Pos",
            "Yes",
            "Yes",
        )
        assert copy.sql("SELECT @@read_only, @@gtid_strict_mode, @@log_bin") == ((1, 1, 1),)
        failed, message = copy.promises()["mariadb-replication"]
        assert not failed and message.startswith("Mariadb replicates from "), message
        copy.wait_for_row_of(either_source)
