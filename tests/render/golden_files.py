# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares rendered files with golden ones, or writes these anew."""

import shutil
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check(case: str, rendered: dict[str, str], update: bool) -> None:
    """AssertionError unless the files of `case` are the rendered ones; `update` makes them so."""
    folder = GOLDEN / case
    if update:
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in rendered.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    golden = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert sorted(rendered) == sorted(golden)
    for name, text in golden.items():
        assert rendered[name] == text, name
