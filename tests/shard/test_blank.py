"""Emptied shards: as many rows and tokens, nothing in some of them, and not a bit changed in the rest."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import Digest, digest_of
from pyfactory.shard.blank import (
    blank_rows,
    blanked_content,
    blanked_side,
    forgotten_id,
    is_forgotten,
    rows_with_text,
    text_digests,
    token_ranges,
)
from pyfactory.shard.layout import key_of_id, raw_schema
from pyfactory.shard.reader import open_shard, open_side
from pyfactory.shard.writer import encode_shard, make_side, token_batch

VALUES = {
    "int8": (pa.int8(), -3, 0),
    "uint64": (pa.uint64(), 2**63, 0),
    "float": (pa.float32(), 1.5, 0.0),
    "double": (pa.float64(), -0.0, 0.0),
    "bool": (pa.bool_(), True, False),
    "date": (pa.date32(), datetime.date(2020, 5, 4), datetime.date(1970, 1, 1)),
    "string": (pa.string(), "small", ""),
    "large_string": (pa.large_string(), "large", ""),
    "binary": (pa.binary(), b"\x00\xff", b""),
    "large_binary": (pa.large_binary(), b"\xfe", b""),
    "moment": (
        pa.timestamp("ms", tz="UTC"),
        datetime.datetime(2020, 5, 4, tzinfo=datetime.UTC),
        datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    ),
    "list": (pa.large_list(pa.field("item", pa.int32(), nullable=False)), [1, 2, 3], []),
    "nulls": (pa.large_list(pa.field("item", pa.float64())), [1.0, None], []),
}


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("name", VALUES)
def test_every_kind_of_column(name: str, nullable: bool) -> None:
    """Catches: a kind that cannot be emptied, nulls where there may be none, values left under a null."""
    kind, value, zero = VALUES[name]
    values = [value, value, None if nullable else value, value]
    schema = raw_schema([pa.field("c", kind, nullable)])
    batch = pa.record_batch([pa.array(["a", "b", "c", "d"], pa.large_string()), pa.array(values, kind)], schema=schema)
    stored = blanked_content(batch, np.array([1, 3]))
    found = open_shard(stored, "it", verify=True)
    assert found.schema.equals(schema)
    assert found.column(0).to_pylist() == ["a", "", "c", ""]
    gone = None if nullable else zero
    assert found.column(1).to_pylist() == [values[0], gone, values[2], gone]
    assert stored == encode_shard(found), "equal values have equal bytes"
    assert blank_rows(found, np.arange(4)).tolist() == [False, True, False, True]


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), max_size=8), width=st.sampled_from([1, 2, 4]), chance=st.randoms())
def test_documents_keep_their_length(lengths: list[int], width: int, chance: object) -> None:
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    values = np.arange(1, offsets[-1] + 1).astype(f"u{width}")
    rows = np.array([row for row in range(len(lengths)) if chance.random() < 0.5], np.int64)  # type: ignore[attr-defined]
    batch = token_batch(values, offsets)
    found = open_shard(blanked_content(batch, rows), "it", verify=True)
    before, after = batch.column(0).to_pylist(), found.column(0).to_pylist()
    assert [len(row) for row in after] == lengths
    for row in range(len(lengths)):
        assert after[row] == ([0] * lengths[row] if row in rows else before[row])
    spans = token_ranges(batch, rows)
    assert spans == [(offsets[row], offsets[row + 1]) for row in rows if lengths[row]]
    assert values.tolist() == np.arange(1, offsets[-1] + 1).tolist(), "what was opened is not written to"


def test_sides_keep_rows_and_origins() -> None:
    """Catches: keys of old ids left behind, rows or origins that move."""
    ids = pa.array([f"id {number}" for number in range(50)] + ["id 3"], pa.large_string())
    files, lines = [Digest("ab" * 32), Digest("cd" * 32)], np.arange(1, 52, dtype=np.int64)
    file = (np.arange(51) % 2).astype(np.int32)
    for origins in ((), (files, file, lines)):
        old = open_side(make_side(ids, *origins), "old")
        rows = old.rows_of(np.frombuffer(key_of_id("id 3") + key_of_id("id 9") + key_of_id("no"), "V16"))
        assert rows.tolist() == [3, 9, 50]
        new = open_side(blanked_side(old, rows), "new", verify=True)
        expected = [forgotten_id(name) if row in (3, 9, 50) else name for row, name in enumerate(ids.to_pylist())]
        assert new.ids.to_pylist() == expected
        assert new.find("id 3") is None and new.find(forgotten_id("id 3")) == 3
        assert [new.origin(row) for row in range(51)] == [old.origin(row) for row in range(51)]


def test_ids_of_forgotten_records() -> None:
    name = forgotten_id("a person")
    assert name == f"forgotten:{key_of_id('a person').hex()}" and is_forgotten(name)
    assert forgotten_id(name) == name
    for other in ("a person", "forgotten:", f"{name}0", name.upper(), name[:-1]):
        assert not is_forgotten(other)


def test_texts_are_known_by_their_digests() -> None:
    texts = ["one", "", "zwölf", "one"]
    batch = pa.record_batch([pa.array(texts, pa.large_string())], schema=raw_schema())
    assert text_digests(batch, np.arange(4)) == [digest_of(text.encode()) for text in ("one", "zwölf", "one")]
    assert rows_with_text(batch, {digest_of(b"one"), digest_of(b"")}) == [0, 3]
    assert rows_with_text(batch.slice(1), {digest_of(b"one")}) == [2]
    tokens = token_batch(np.zeros(3, np.uint16), np.array([0, 3], np.int64))
    assert text_digests(tokens, np.arange(1)) == [] and rows_with_text(tokens, {digest_of(b"")}) == []
