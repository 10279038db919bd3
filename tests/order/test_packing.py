"""How many samples a number of tokens gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.order.packing import Concat


@given(st.integers(1, 10**6), st.integers(1, 2**62))
def test_every_sample_has_its_target_and_no_more_would_fit(length: int, more: int) -> None:
    """Catches tokens // length (the last sample lacks its last target) and (tokens - 1) // length - 1."""
    tokens = length + more
    packing = Concat(tokens, length)
    last_target = packing.samples * length  # of sample n - 1: (n - 1) L + L
    assert packing.samples >= 1
    assert last_target <= tokens - 1 < last_target + length
    assert packing.tokens_left == tokens - packing.samples * length
    assert 1 <= packing.tokens_left <= length


def test_by_hand() -> None:
    assert [Concat(tokens, 4).samples for tokens in (5, 8, 9, 12, 13)] == [1, 1, 2, 2, 3]
    assert [Concat(tokens, 4).tokens_left for tokens in (5, 8, 9, 12, 13)] == [1, 4, 1, 4, 1]
    assert Concat(2, 1).samples == 1


@pytest.mark.parametrize(("tokens", "length"), [(0, 1), (1, 1), (4, 4), (3, 2048)])
def test_too_few_tokens(tokens: int, length: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{tokens} tokens") as caught:
        Concat(tokens, length)
    assert "sequence_length below" in caught.value.hint
