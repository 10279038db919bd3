"""What a recipe takes."""

from __future__ import annotations

import numpy as np
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


@pytest.mark.parametrize("template", [[3, 4], (3, 4), np.array([3, 4]), np.array([3, 4], np.uint16), [np.int64(3), 4]])
def test_a_template_of_any_sequence_is_a_tuple(template: object) -> None:
    """Catches an array refused, and integers of NumPy in the replay identity."""
    recipe = Recipe(packing="documents", response_template=template)  # type: ignore[arg-type]
    assert recipe.response_template == (3, 4)
    assert [*map(type, recipe.response_template)] == [int, int]
    assert hash(recipe) == hash(Recipe(packing="documents", response_template=(3, 4)))


@pytest.mark.parametrize(
    "template", ["<bot>", "", b"x", tuple("bot"), 7, None, [True], [1.5], [-1], [2**32], np.eye(2)]
)
def test_what_is_no_token_is_refused(template: object) -> None:
    with pytest.raises(InvalidInputError, match="response_template") as caught:
        Recipe(packing="documents", response_template=template)  # type: ignore[arg-type]
    assert "give tokens" in caught.value.hint


@pytest.mark.parametrize("template", [[], np.array([], np.int64)])
def test_an_empty_template_that_was_asked_for_is_refused(template: object) -> None:
    with pytest.raises(InvalidInputError, match="no tokens") as caught:
        Recipe(packing="documents", response_template=template)  # type: ignore[arg-type]
    assert caught.value.hint == "leave it out for none"
    assert Recipe(packing="documents", response_template=()).response_template == ()
