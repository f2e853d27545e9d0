# SPDX-License-Identifier: GPL-2.0-or-later
"""An old primary with transactions that nobody else has: they are listed, saved, and it is made anew, itself kept."""

import gzip

from tests.cluster.roles import act, follow_the_promise, kill, pair, refused, rejoin, role, url_file, wait_until_fenced


def test_what_only_it_has_is_saved_and_it_is_made_anew(node, tmp_path):
    with pair(node, "diverged") as (old, new):
        new.wait_for_row_of(old)
        new.sql("STOP SLAVE IO_THREAD")
        old.sql("INSERT INTO travel.message (text) VALUES ('only here')")
        only_here = old.sql("SELECT @@gtid_binlog_pos")[0][0]
        kill(old)
        act(new, "takeover", "--force")
        new.sql("INSERT INTO travel.message (text) VALUES ('only there')")
        node.process("--all")
        wait_until_fenced(old, new)
        where = url_file(tmp_path, new, "replication-primary-url")
        sentence = refused(old, "rejoin", "--primary-url-file", where)
        assert "this database has 1 transactions that " in sentence and only_here in sentence
        refused(old, "rejoin", "--save", "--primary-url-file", where)
        (saved,) = (old.path / "srv/role").glob("diverged-*.sql.gz")
        assert saved.stat().st_mode & 0o777 == 0o600
        assert only_here.encode() in gzip.decompress(saved.read_bytes())
        assert role(old) == "fenced"
        rejoin(old, new, tmp_path)
        assert role(old) == "replica"
        (kept,) = (old.path / "srv").glob("mariadb.diverged-*")
        assert (kept / "travel").is_dir()
        old.wait_for_row_of(new)
        texts = {text for (text,) in old.sql("SELECT text FROM travel.message")}
        assert "only there" in texts and "only here" not in texts
        follow_the_promise(node, new, [old])
