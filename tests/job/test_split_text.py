"""Cutting a text where words end anyway."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from job_tables import pair_tokenizer

from pyfactory.job.steps.split_text import split_text

words = st.text(alphabet="ab1'st\n\r\t .,;  é春\u00a0\u2028😀", max_size=60)


@settings(max_examples=300, deadline=None)  # the first example makes the tokenizer
@given(words, st.integers(1, 12))
def test_pieces_give_the_words_of_the_whole(text: str, size: int) -> None:
    """With every pair of bytes a token, a cut inside a word would show. Catches a cut before or after white space
    that the pattern joins to what follows."""
    pieces = split_text(text, size)
    assert "".join(pieces) == text
    assert all(len(piece) >= size for piece in pieces[:-1])
    tokenizer = pair_tokenizer()
    whole = tokenizer.encode(text).ids
    assert [number for piece in pieces for number in tokenizer.encode(piece).ids] == whole


def test_cuts_as_soon_as_it_may() -> None:
    assert split_text("one two\nthree  four five", 5) == ["one two", "\nthree", "  four", " five"]
    assert split_text("no_cut_anywhere!", 3) == ["no_cut_anywhere!"]
    assert split_text("", 3) == [""]
