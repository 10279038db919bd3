"""Selections: their bytes, and bytes that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import CorruptError
from pyfactory.job.selection import decode_selection, encode_selection


def test_the_layout_is_frozen() -> None:
    mask = np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 1], bool)
    content = b"pfselect" + (10).to_bytes(8, "little") + (3).to_bytes(8, "little") + bytes([0b10000001, 0b10])
    assert encode_selection(mask) == content
    assert decode_selection(content, 10, 3, "it").tolist() == mask.tolist()


@given(st.lists(st.booleans(), max_size=40))
def test_round_trip(mask: list[bool]) -> None:
    content = encode_selection(np.array(mask, bool))
    decoded = decode_selection(content, len(mask), sum(mask), "it")
    assert decoded.dtype == bool and decoded.tolist() == mask


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_no_other_bytes_are_that_selection(mask: list[bool], data: st.DataObject) -> None:
    """Any changed byte is either refused or selects as many other rows: no bit is left unread."""
    content = bytearray(encode_selection(np.array(mask, bool)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_selection(bytes(content), len(mask), sum(mask), "it").tolist()
    except CorruptError as error:
        assert str(error).startswith("it ")
        return
    assert at >= 24 and sum(decoded) == sum(mask) and decoded != mask


@pytest.mark.parametrize("rows", [7, 9, 16, 2**40])
def test_a_selection_is_of_its_rows_only(rows: int) -> None:
    with pytest.raises(CorruptError):
        decode_selection(encode_selection(np.ones(8, bool)), rows, 8, "it")


def test_rows_beyond_the_last_are_never_kept() -> None:
    """As many bits as promised, but one of them behind the last row."""
    content = encode_selection(np.array([1, 1, 1], bool))[:-1] + bytes([0b1011])
    with pytest.raises(CorruptError, match="does not select the 3 rows"):
        decode_selection(content, 3, 3, "it")


def test_truncated_bytes() -> None:
    content = encode_selection(np.ones(8, bool))
    for stop in range(len(content)):
        with pytest.raises(CorruptError):
            decode_selection(content[:stop], 8, 8, "it")
