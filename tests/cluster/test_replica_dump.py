# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica from a dump, of the list or made by anybody: events stay asleep, accounts are the primary's."""

import functools
import gzip
import subprocess
import threading

from tests.cluster.node import QuietHandler, first_free_server
from tests.cluster.replicas import assert_same_data, offered, replica


def test_it_is_made_of_the_newest_dump(node, either_source):
    newest = [entry for entry in offered(either_source) if entry["kind"] == "logical"][-1]
    with replica(node, "dumped", either_source, "dump") as copy:
        made = copy.bootstrapped()
        assert (made["method"], made["gtid"]) == ("dump", newest["gtid"])
        assert copy.sql("SELECT status FROM information_schema.events") == (("SLAVESIDE_DISABLED",),)
        copy.wait_for_row_of(either_source)
        assert_same_data(copy, either_source)


def test_a_dump_of_anybody_will_do(node, source, tmp_path):
    dump = [
        f"{node.release}/parts/mariadb/bin/mariadb-dump",
        f"--defaults-file={source.path}/etc/mariadb.cnf",
        *("--all-databases", "--single-transaction", "--gtid", "--master-data=1", "--routines", "--events"),
    ]
    made = subprocess.run(dump, stdout=subprocess.PIPE, check=True)
    (tmp_path / "theirs.sql.gz").write_bytes(gzip.compress(made.stdout))
    server = first_free_server(functools.partial(QuietHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/theirs.sql.gz"
        with replica(node, "dumped", source, bootstrap_url=url) as copy:
            assert copy.bootstrapped()["method"] == "dump"
            copy.wait_for_row_of(source)
            assert_same_data(copy, source)
    finally:
        server.shutdown()
        server.server_close()
