"""The bytes of packing tables: what is written is read, and hostile bytes end in CorruptError."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyfactory.core.canonical import encode
from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, NewerFormatError
from pyfactory.shard.packing_format import (
    PackedRange,
    PackingIndex,
    RangeEntry,
    decode_index,
    decode_range,
    encode_range,
    read_artifact_name,
)


def packed(samples: list[list[tuple[int, int]]], length: int, tokens: int) -> PackedRange:
    pieces = [piece for sample in samples for piece in sample]
    first, count = ([piece[i] for piece in pieces] for i in (0, 1))
    offsets = np.cumsum([0, *map(len, samples)])
    return PackedRange(length, tokens, np.array(first, np.int64), offsets, np.array(count, np.uint32))


GOOD = [[(0, 5)], [(9, 2), (5, 2)], [(7, 2)]]
GOOD_BYTES = encode_range(packed(GOOD, 4, 11))


def test_the_bytes_by_hand() -> None:
    """As docs/format.md says them."""
    numbers = [np.array(part, f"<{kind}").tobytes() for part, kind in (([4, 11, 3, 4], "u8"), ([0, 9, 5, 7], "u8"))]
    tail = np.array([0, 1, 3, 4], "<u8").tobytes() + np.array([5, 2, 2, 2], "<u4").tobytes()
    assert b"PFPACK01" + b"".join(numbers) + tail == GOOD_BYTES


def test_what_is_written_is_read() -> None:
    found = decode_range(memoryview(GOOD_BYTES), "it")
    assert (found.length, found.tokens) == (4, 11)
    assert (found.first.tolist(), found.count.tolist()) == ([0, 9, 5, 7], [5, 2, 2, 2])
    assert found.offsets.tolist() == [0, 1, 3, 4]
    empty = decode_range(encode_range(packed([], 4, 0)), "it")
    assert len(empty.first) == 0 and empty.offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("samples", "length", "tokens"),
    [
        ([[(0, 6)]], 4, 11),
        ([[(0, 3), (3, 3)]], 4, 11),
        ([[(7, 5)]], 4, 11),
        ([[(-1, 2)]], 4, 11),
        ([[(2**62, 2)]], 4, 11),
        ([[(0, 0)]], 4, 11),
        ([[]], 4, 11),
        ([[(0, 1)], []], 4, 11),
        ([[(0, 1)]], 0, 11),
        ([[(0, 1)]], 2**24 + 1, 11),
        ([[(0, 1)]], 4, 2**62 + 1),
    ],
    ids=str,
)
def test_ranges_that_contradict_themselves(samples: list[list[tuple[int, int]]], length: int, tokens: int) -> None:
    """Mutants: length + 1 is length + 2; a piece may end one token behind the range; the totals are not looked at."""
    with pytest.raises(CorruptError):
        decode_range(encode_range(packed(samples, length, tokens)), "it")


@given(st.data())
def test_no_bytes_are_a_wild_read(data: st.DataObject) -> None:
    """Cut, longer, or changed anywhere: what is accepted lies within its range."""
    content = bytearray(GOOD_BYTES)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    check_range(bytes(content[:cut]) + data.draw(st.one_of(st.just(b""), st.binary(max_size=9))))


@given(st.binary(max_size=80))
@example(b"")
@example(b"PFPACK01" + b"\xff" * 32)
def test_any_bytes(tail: bytes) -> None:
    check_range(tail)
    check_range(b"PFPACK01" + tail)


def check_range(content: bytes) -> None:
    try:
        found = decode_range(content, "it")
    except CorruptError:
        return
    assert (found.first >= 0).all() and (found.first + found.count <= found.tokens).all()
    assert (np.diff(found.offsets) >= 1).all() and found.offsets[-1] == len(found.first) == len(found.count)


A, B = digest_of(b"a"), digest_of(b"b")
# digest, rows, documents, tokens, samples, inputs, truncated, split
INDEX = PackingIndex("best_fit", 4, 3, (RangeEntry(A, 3, 3, 12, 3, 11, 0, 1), RangeEntry(B, 2, 1, 4, 1, 4, 0, 0)))
VALUE: dict[str, Any] = json.loads(INDEX.encode())


def test_an_index_is_read_as_written() -> None:
    assert decode_index(INDEX.encode(), "it") == INDEX
    assert INDEX.total("tokens") == 16


def changed(**changes: Any) -> bytes:
    return encode({**VALUE, **changes})


def with_range(**changes: int) -> bytes:
    """The first range otherwise, with totals to match."""
    names = ["digest", "rows", "documents", "tokens", "samples", "inputs", "truncated", "split"]
    first = [changes.get(name, was) for name, was in zip(names, VALUE["ranges"][0], strict=True)]
    totals = {name: first[i] + VALUE["ranges"][1][i] for i, name in enumerate(names) if i}
    return changed(ranges=[first, VALUE["ranges"][1]], totals=totals)


def test_the_untouched_range_is_fine() -> None:
    assert decode_index(with_range(), "it") == INDEX


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        changed(kind="tree"),
        changed(v=0),
        changed(v=True),
        changed(more=1),
        changed(method="worst_fit"),
        changed(sequence_length=0),
        changed(sequence_length=2**24 + 1),
        changed(sequence_length="4"),
        changed(range_rows=0),
        changed(range_rows=2),
        changed(ranges={}),
        changed(ranges=[1]),
        changed(ranges=[[A]]),
        changed(ranges=[["a" * 63, *VALUE["ranges"][0][1:]]]),
        changed(totals={}),
        changed(totals={**VALUE["totals"], "split": True}),
        changed(totals={**VALUE["totals"], "truncated": False}),
        changed(totals={**VALUE["totals"], "samples": 5}),
        with_range(rows=2),
        with_range(rows=4),
        with_range(documents=4),
        with_range(inputs=13),
        with_range(truncated=2),
        with_range(samples=2),
        with_range(samples=13),
        with_range(split=4),
        with_range(tokens=-1),
        with_range(tokens=2**63),
    ],
    ids=lambda content: content.decode()[-150:],
)
def test_an_index_that_is_none(content: bytes) -> None:
    with pytest.raises(CorruptError):
        decode_index(content, "it")


def test_an_index_of_a_newer_format() -> None:
    with pytest.raises(NewerFormatError):
        decode_index(changed(v=2), "it")


def test_names_of_artifacts() -> None:
    assert read_artifact_name("packing/best_fit/2048") == ("best_fit", 2048)
    for name in ("packing/best_fit/", "packing/best_fit/02048", "packing/other/4", "packing/best_fit/²", "tokenizer"):
        with pytest.raises(CorruptError):
            read_artifact_name(name)
