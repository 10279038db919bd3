"""Long texts as several short ones that give the same words.

`tokenizers` keeps some hundred bytes of memory per byte of a text. The pattern of byte-level BPE never joins a letter
or digit with white space after it, and looks neither back nor past it, so there a text may be cut: the words stay the
same.
"""

from __future__ import annotations

import re

__all__ = ["split_text"]

_CUT = re.compile(r"(?<=[0-9A-Za-z])(?=[ \n])")


def split_text(text: str, size: int) -> list[str]:
    """Return pieces that join to `text`, none shorter than `size` characters but the last, cut where words end."""
    pieces = []
    start = 0
    while len(text) - start > size:
        cut = _CUT.search(text, start + size)
        if cut is None:
            break
        pieces.append(text[start : cut.start()])
        start = cut.start()
    pieces.append(text[start:])
    return pieces
