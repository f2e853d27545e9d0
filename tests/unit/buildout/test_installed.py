# SPDX-License-Identifier: GPL-2.0-or-later
"""One [buildout] section in `.installed.cfg`, whatever was appended."""

import configparser

from slapos.recipe.erp5.buildout.installed import merged

APPENDED = """[buildout]
installed_develop_eggs =
parts = a b

[a]
recipe = x
text = one
\ttwo

[buildout]
parts = a

[buildout]
parts = a
\tc
"""


def test_sections_are_merged_and_the_last_value_wins():
    parser = configparser.ConfigParser()
    parser.read_string(merged(APPENDED))
    assert dict(parser["buildout"]) == {"installed_develop_eggs": "", "parts": "a\nc"}
    assert dict(parser["a"]) == {"recipe": "x", "text": "one\ntwo"}


def test_a_file_with_one_section_stays_as_it_is():
    text = "[buildout]\nparts = a\n\n[a]\nrecipe = x\n"
    assert merged(text) == text


def test_merging_again_changes_nothing():
    assert merged(merged(APPENDED)) == merged(APPENDED)
