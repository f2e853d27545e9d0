# SPDX-License-Identifier: GPL-2.0-or-later
"""A replica from a dump that somebody made by hand, and serves in a way of their own."""

import functools
import gzip
import subprocess
import threading

from tests.cluster.node import QuietHandler, first_free_server
from tests.cluster.replicas import assert_same_data, replica


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
