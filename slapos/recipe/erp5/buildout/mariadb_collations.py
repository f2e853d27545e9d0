# SPDX-License-Identifier: GPL-2.0-or-later
"""The collations of MariaDB 10.11, by those character sets that a server may have; a service test asks a server."""

from itertools import product

_UNICODE = """
    bin croatian_ci croatian_mysql561_ci czech_ci danish_ci esperanto_ci estonian_ci general_ci general_nopad_ci
    german2_ci hungarian_ci icelandic_ci latvian_ci lithuanian_ci myanmar_ci nopad_bin persian_ci polish_ci
    roman_ci romanian_ci sinhala_ci slovak_ci slovenian_ci spanish2_ci spanish_ci swedish_ci thai_520_w2
    turkish_ci unicode_520_ci unicode_520_nopad_ci unicode_ci unicode_nopad_ci vietnamese_ci
"""

# Tailorings of the Unicode Collation Algorithm 14.0.0; each has eight variants.
_LANGUAGES = """
    croatian czech danish esperanto estonian german2 hungarian icelandic latvian lithuanian persian polish roman
    romanian sinhala slovak slovenian spanish spanish2 swedish turkish vietnamese
"""
_UCA1400 = " ".join(
    "_".join(filter(None, ("uca1400", *words)))
    for words in product(("", *_LANGUAGES.split()), ("", "nopad"), ("ai", "as"), ("ci", "cs"))
)

_NAMES = {
    "utf8mb4": _UNICODE + _UCA1400,
    "utf8mb3": _UNICODE + _UCA1400 + " general_mysql500_ci",
    "latin1": """
        bin danish_ci general_ci general_cs german1_ci german2_ci nopad_bin spanish_ci swedish_ci swedish_nopad_ci
    """,
    "ascii": "bin general_ci general_nopad_ci nopad_bin",
    "cp932": "bin japanese_ci japanese_nopad_ci nopad_bin",
    "eucjpms": "bin japanese_ci japanese_nopad_ci nopad_bin",
    "sjis": "bin japanese_ci japanese_nopad_ci nopad_bin",
    "ujis": "bin japanese_ci japanese_nopad_ci nopad_bin",
    "gbk": "bin chinese_ci chinese_nopad_ci nopad_bin",
    "gb2312": "bin chinese_ci chinese_nopad_ci nopad_bin",
    "big5": "bin chinese_ci chinese_nopad_ci nopad_bin",
    "euckr": "bin korean_ci korean_nopad_ci nopad_bin",
}

COLLATIONS = {"binary": frozenset({"binary"})} | {
    character_set: frozenset(f"{character_set}_{name}" for name in names.split())
    for character_set, names in _NAMES.items()
}
"""Character set -> full names of its collations."""
