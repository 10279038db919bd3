"""What a recipe takes."""

from __future__ import annotations

import pytest

from pyfactory.errors import InvalidInputError
from pyfactory.order.recipe import Recipe


@pytest.mark.parametrize("name", ["sequence_length", "block_size", "window"])
@pytest.mark.parametrize("number", [0, -1, 2**31 - 1, 2**64, True, 1.0, "8", None])
def test_bad_numbers_are_refused_by_name(name: str, number: object) -> None:
    with pytest.raises(InvalidInputError, match=name) as caught:
        Recipe(**{name: number})
    assert repr(number) in caught.value.message and "from 1 to" in caught.value.hint


@pytest.mark.parametrize("name", ["sequence_length", "block_size", "window"])
@pytest.mark.parametrize("number", [1, 2**31 - 2])
def test_the_ends_of_the_range_are_taken(name: str, number: int) -> None:
    assert Recipe(**{name: number}).to_value()[name] == number


def test_the_value_tells_recipes_apart() -> None:
    """Section 9 of the specification: catches a parameter that is left out of the replay identity."""
    assert Recipe(7, 8, 9).to_value() == {"packing": "concat", "sequence_length": 7, "block_size": 8, "window": 9}
