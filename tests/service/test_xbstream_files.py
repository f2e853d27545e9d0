# SPDX-License-Identifier: GPL-2.0-or-later
"""Real streams, unpacked by mbstream and by ourselves: the same trees, byte for byte, with the same holes."""

import subprocess
import threading
from pathlib import Path

import zstandard

from slapos.recipe.erp5.mariadb.manifest import FULL, INCREMENTAL
from slapos.recipe.erp5.mariadb.xbstream import Contents, Inspector
from slapos.recipe.erp5.mariadb.xbstream_files import Files
from tests.service.backup_fixtures import Partition, empty_data, new_partition, partition, server, wait_until
from tests.service.physical_fixtures import back_up, filled, listed

__all__ = ["empty_data", "filled", "new_partition", "partition", "server"]

PIECE = 100_003
"""A prime: no piece begins where a page or a chunk does."""


def add_tables(server: Partition) -> None:
    """With compressed pages, in either format that InnoDB has for them, and those that change while they are copied."""
    rows = "SELECT seq, REPEAT('x', 3000) FROM seq_1_to_2000"
    options = {
        "page": "PAGE_COMPRESSED=1",
        "page_2": "PAGE_COMPRESSED=1",
        "zipped": "ROW_FORMAT=COMPRESSED",
        "plain": "",
    }
    server.sql(
        "USE erp5", *(f"CREATE TABLE to_{what} (i INT) ENGINE=InnoDB" for what in ("drop", "rename", "truncate"))
    )
    for name, option in options.items():
        checksum = "crc32" if name == "page_2" else "full_crc32"
        server.sql(
            f"SET GLOBAL innodb_checksum_algorithm = {checksum}",
            "USE erp5",
            f"CREATE TABLE {name} (i INT PRIMARY KEY, data LONGBLOB) ENGINE=InnoDB {option}",
            f"INSERT INTO {name} {rows}",
        )


def back_up_while_tables_change(server: Partition, number: int) -> None:
    """So that the stream has files that say what became of tables."""
    log = server.config.physical_backup_log
    log.unlink(missing_ok=True)
    changing = threading.Thread(target=change_tables, args=(server, log, number))
    changing.start()
    back_up(server)
    changing.join()


def change_tables(server: Partition, log: Path, number: int) -> None:
    wait_until(lambda: log.exists() and b"Streaming ./erp5/catalog.ibd" in log.read_bytes(), "the copy of a table")
    server.sql(
        "USE erp5",
        "DROP TABLE to_drop",
        f"RENAME TABLE to_rename TO renamed_{number}",
        "TRUNCATE TABLE to_truncate",
        f"CREATE TABLE created_{number} (i INT) ENGINE=InnoDB",
        "UPDATE page SET data = REPEAT('y', 2000) WHERE i < 100",
    )


def test_a_chain_is_unpacked_as_by_mbstream(filled, tmp_path):
    add_tables(filled)
    filled.max_rate = 10_000_000
    filled.write_configuration()
    back_up_while_tables_change(filled, 1)
    filled.sql("USE erp5", *(f"CREATE TABLE to_{what} (i INT) ENGINE=InnoDB" for what in ("drop", "rename")))
    filled.sql("UPDATE erp5.page SET data = REPEAT('z', 1000)", "UPDATE erp5.catalog SET data = 1 WHERE uid < 2000")
    back_up_while_tables_change(filled, 2)
    assert [entry.kind for entry in listed(filled)] == [FULL, INCREMENTAL]
    for entry in listed(filled):
        with (filled.config.physical_backups / entry.name).open("rb") as source:
            stream = zstandard.ZstdDecompressor().stream_reader(source).read()
        ours, theirs = tmp_path / f"{entry.kind}-ours", tmp_path / f"{entry.kind}-theirs"
        contents = unpack(stream, ours)
        unpack_with_mbstream(filled, stream, theirs)
        assert tree(ours) == tree(theirs)
        assert contents.files == {name for name, content in tree(ours).items() if content is not None}
        assert {".new", ".ren", ".del"} <= {Path(name).suffix for name in contents.files}
        if entry.kind == FULL:
            assert_same_holes(ours, theirs)


def unpack(stream: bytes, folder: Path) -> Contents:
    folder.mkdir()
    with Files(folder, len(stream)) as files:
        inspector = Inspector(files)
        for place in range(0, len(stream), PIECE):
            inspector.feed(stream[place : place + PIECE])
        return inspector.finish()


def unpack_with_mbstream(partition: Partition, stream: bytes, folder: Path) -> None:
    folder.mkdir()
    command = [partition.config.program("mbstream"), "-x", "-C", str(folder)]
    assert subprocess.run(command, input=stream, check=True, stderr=subprocess.PIPE).stderr == b""


def tree(folder: Path) -> dict[str, bytes | None]:
    """What each file below `folder` holds, and None for each folder."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def assert_same_holes(ours: Path, theirs: Path) -> None:
    """To a piece: the first one is written before it is known that the table has any."""
    for path in theirs.rglob("*.ibd"):
        used, used_by_mbstream = taken(ours / path.relative_to(theirs)), taken(path)
        assert abs(used - used_by_mbstream) <= 2 * PIECE, path
        assert (used < path.stat().st_size / 2) == (path.stem in ("page", "page_2")), path


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512
