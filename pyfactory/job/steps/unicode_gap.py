"""The characters about which gigatoken and `tokenizers` disagree.

Both cut a text into words before they look up tokens, by the letters and digits of Unicode. gigatoken has the tables
of a newer Unicode than `tokenizers`, so that 4,657 characters are letters or digits to one and unassigned to the
other. The words around such a character differ, and so do the tokens.

The table was made by letting both libraries tokenise every code point (all but the surrogates, which no text has) in
twenty short texts each, such as "{c}'s", " {c}a", "a{c}1", "{c}{c}'ll", "{c}  x" and "1{c}a", with a vocabulary in
which every pair of bytes is a token, so that no difference between words stays hidden. "{c}'s" alone finds them all.
1.6 million random texts without these characters, of mixed scripts, white space, controls and emoji, gave no
difference. tests/job/test_unicode_gap.py makes the table again and compares.
"""

from __future__ import annotations

__all__ = ["GIGATOKEN", "PREFIXES", "RANGES", "TOKENIZERS"]

GIGATOKEN = "0.10.0"
"""Version of gigatoken for which the table was made."""

TOKENIZERS = "0.23.3"
"""Version of `tokenizers` for which the table was made."""

RANGES = (
    (0x88F, 0x88F),
    (0xC5C, 0xC5C),
    (0xCDC, 0xCDC),
    (0xA7CE, 0xA7CF),
    (0xA7D2, 0xA7D2),
    (0xA7D4, 0xA7D4),
    (0xA7F1, 0xA7F1),
    (0x10940, 0x10959),
    (0x10EC5, 0x10EC7),
    (0x11DB0, 0x11DDB),
    (0x11DE0, 0x11DE9),
    (0x16EA0, 0x16EB8),
    (0x16EBB, 0x16ED3),
    (0x16FF2, 0x16FF6),
    (0x187F8, 0x187FF),
    (0x18D09, 0x18D1E),
    (0x18D80, 0x18DF2),
    (0x1E6C0, 0x1E6DE),
    (0x1E6E0, 0x1E6E2),
    (0x1E6E4, 0x1E6E5),
    (0x1E6E7, 0x1E6ED),
    (0x1E6F0, 0x1E6F4),
    (0x1E6FE, 0x1E6FF),
    (0x2B73A, 0x2B73F),
    (0x2CEA2, 0x2CEAD),
    (0x323B0, 0x33479),
)
"""First and last code point of each run of such characters, ascending."""

PREFIXES = frozenset(chr(point).encode()[:2] for first, last in RANGES for point in range(first, last + 1))
"""First two bytes of such characters in UTF-8: a text without any of them needs no closer look."""
