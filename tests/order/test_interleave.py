"""Weights: decimals -> whole numbers, in the order of a phase, and what is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.order.interleave import MAX_SOURCES, reduce_weights

WEIGHTS = st.one_of(
    st.integers(0, 50_000),
    st.integers(0, 50_000).map(str),
    st.builds("{}.{:03d}".format, st.integers(0, 1000), st.integers(0, 999)),
    st.decimals(0, 1000, places=4),
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), WEIGHTS, min_size=1, max_size=6))
def test_the_ratio_stays_and_no_smaller_numbers_have_it(weights: dict[str, str | int | Decimal]) -> None:
    """Catches a weight scaled by its own number of digits, a missing gcd, and names in the order of the text."""
    exact = {name: Fraction(weight) for name, weight in weights.items() if Fraction(weight)}
    if not exact:
        with pytest.raises(InvalidInputError, match="all weights are zero"):
            reduce_weights(weights)
        return
    reduced = reduce_weights(weights)
    assert reduced.keys() == exact.keys() and math.gcd(*reduced.values()) == 1
    assert len({exact[name] / whole for name, whole in reduced.items()}) == 1
    assert [*reduced] == sorted(exact, key=lambda name: name.encode())


def test_names_stand_by_their_bytes() -> None:
    """U+10000 is behind U+FFFF in UTF-8, and before it in UTF-16, by which some languages sort."""
    names = ["\U00010000", "\uffff", "é", "z", "Z", "a/b", "a", ""]
    assert [*reduce_weights(dict.fromkeys(names, 1))] == ["", "Z", "a", "a/b", "z", "é", "\uffff", "\U00010000"]


def test_as_written() -> None:
    assert reduce_weights({"web": "0.7", "code": "0.30", "none": "0"}) == {"code": 3, "web": 7}
    assert reduce_weights({"a": 2, "b": Decimal("0.5")}) == {"a": 4, "b": 1}
    assert reduce_weights({"a": "0.000000001", "b": "0.000000003"}) == {"a": 1, "b": 3}
    assert reduce_weights({"a": "12345678901234567890.5", "b": "24691357802469135781"}) == {"a": 1, "b": 2}
    assert reduce_weights({"a": Decimal("1E+3"), "b": Decimal("5E+2")}) == {"a": 2, "b": 1}
    assert reduce_weights({"alone": "0.3"}) == {"alone": 1}


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (0.7, 'float 0.7.*in quotes: "0.7"'),
        (1e-7, 'float 1e-07.*in quotes: "0.7"'),
        (math.nan, "float nan.*in quotes"),
        ("nan", "'nan'"),
        (Decimal("nan"), "NaN"),
        (Decimal("sNaN"), "sNaN"),
        (Decimal("inf"), "Infinity"),
        (-1, "is -1:"),
        ("-0.5", "'-0.5'"),
        (Decimal("-0"), "is -0:"),
        ("", "decimal of 0 or more"),
        ("1e3", "'1e3'"),
        (".5", "'.5'"),
        ("1_000", "'1_000'"),
        (" 1", "' 1'"),
        ("1\n", r"'1\\n'"),
        ("\uff11", "decimal of 0 or more"),
        (True, "of type bool"),
        (None, "of type NoneType"),
        ("0.1234567891", "10 digits behind the point"),
        (Decimal("1E-10"), "10 digits behind the point"),
        (Decimal("1E+999999"), "more than 100 digits"),
        pytest.param(10**5000, "more than 100 digits", id="a long integer"),
        pytest.param("9" * 5000, "more than 100 digits", id="a long text"),
    ],
)
def test_no_weight(weight: Any, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=f"source 'web'.*{sentence}"):
        reduce_weights({"code": "1", "web": weight})


def test_mixtures_that_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="of 0 sources"):
        reduce_weights({})
    with pytest.raises(InvalidInputError, match="10,001 sources"):
        reduce_weights({str(i): 1 for i in range(MAX_SOURCES + 1)})
    with pytest.raises(InvalidInputError, match="all weights are zero"):
        reduce_weights({"a": "0", "b": "0.00"})
    with pytest.raises(InvalidInputError, match="no UTF-8 form"):
        reduce_weights({"a": "1", "\ud800": "1"})


def test_the_sum_stays_below_2_to_the_32nd() -> None:
    """Catches a bound that is off by one: products of the tree's arithmetic would pass 2^64."""
    assert reduce_weights({"a": 2**32 - 2, "b": 1}) == {"a": 2**32 - 2, "b": 1}
    assert reduce_weights({"a": 3 * 2**40, "b": 2**40}) == {"a": 3, "b": 1}
    with pytest.raises(InvalidInputError, match="4,294,967,296"):
        reduce_weights({"a": 2**32 - 1, "b": 1})
    assert len(reduce_weights({str(i): 1 + i % 2 for i in range(MAX_SOURCES)})) == MAX_SOURCES
