from __future__ import annotations

import json
import math
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import decode, digest_of_value, encode
from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, InternalError, InvalidInputError

INTEGERS = st.integers(-(2**64), 2**64)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert decode(encode(value), "it") == value


def test_the_bytes_are_these() -> None:
    """Frozen: digests of stored values depend on every byte. Catches spaces, escapes, another order of keys."""
    value = {"b": [1, -2, None, True, False, ""], "a": {"ü": 'ü\n"\\\u2028/'}, "Z": 2**64, "": {}}
    expected = '{"":{},"Z":18446744073709551616,"a":{"ü":"ü\\n\\"\\\\\u2028/"},"b":[1,-2,null,true,false,""]}'
    assert encode(value) == expected.encode()
    assert digest_of_value(value) == digest_of(expected.encode())


@given(st.dictionaries(st.text(), st.integers(0, 9), max_size=6), st.randoms())
def test_equal_values_equal_bytes(value: dict[str, int], chance: Any) -> None:
    items = list(value.items())
    chance.shuffle(items)
    assert encode(dict(items)) == encode(value)


@given(VALUES, VALUES)
def test_other_values_other_bytes(one: Any, other: Any) -> None:
    """1 and True are equal to Python and must not be to a digest."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (encode(one) == encode(other)) is same
    assert encode(1) != encode(True) and encode(0) != encode(False)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_hostile_bytes_are_canonical_or_corrupt(content: bytes) -> None:
    """No other exception leaves, and nothing is taken whose bytes would differ when written again."""
    try:
        value = decode(content, "the thing")
    except CorruptError as error:
        assert "the thing" in str(error)
    else:
        assert encode(value) == content


@given(VALUES, st.data())
def test_any_change_of_the_bytes_is_another_value_or_corrupt(value: Any, data: st.DataObject) -> None:
    content = encode(value)
    place = data.draw(st.integers(0, len(content)))
    changed = (
        content[:place] + data.draw(st.binary(min_size=1, max_size=2)) + content[place + data.draw(st.integers(0, 1)) :]
    )
    with suppress(CorruptError):
        assert encode(decode(changed, "it")) == changed


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" 1",
        b"1 ",
        b"1\n",
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'"\\u00fc"',
        b'"\\/"',
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b"NaN",
        b"Infinity",
        b"18446744073709551617",
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * 66 + b"]" * 66,
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        "1".encode("utf-16"),
        b"[1,]",
        b"1 2",
    ],
)
def test_what_is_not_canonical_is_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptError, match="the thing"):
        decode(content, "the thing")


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "value", [1.0, math.nan, b"x", (1,), {1}, {1: 1}, {None: 1}, Colour.RED, 2**64 + 1, -(2**64) - 1]
)
def test_what_has_no_canonical_form(value: Any) -> None:
    for outer in (value, [value], {"a": value}):
        with pytest.raises(InternalError):
            encode(outer)


def test_depth_is_bounded() -> None:
    value: Any = 0
    for _ in range(64):
        value = [value]
    assert decode(encode(value), "it") == value
    with pytest.raises(InternalError, match="deeply"):
        encode([value])


def test_half_a_surrogate_pair_is_the_users_mistake() -> None:
    """As from a command line argument that is not UTF-8."""
    for value in ("\udcff", {"a\udcff": 1}, ["x" * 100 + "\ud800"]):
        with pytest.raises(InvalidInputError, match="Unicode"):
            encode(value)
