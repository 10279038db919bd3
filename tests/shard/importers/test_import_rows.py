"""Canonical content: final in form, so a second implementation and fixed values stand against it."""

from __future__ import annotations

import datetime
import math
import struct
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.shard.importers.rows import RowBuilder, content_hashes, row_bytes
from pyfactory.shard.layout import raw_schema

KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "string": (pa.string(), st.text(max_size=9)),
    "large_string": (pa.large_string(), st.text(max_size=9)),
    "binary": (pa.binary(), st.binary(max_size=9)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float32(), st.floats(width=32)),
    "double": (pa.float64(), st.floats()),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates()),
    "timestamp": (pa.timestamp("us"), st.datetimes(datetime.datetime(1700, 1, 1))),
    "list": (pa.large_list(pa.float32()), st.lists(st.none() | st.floats(width=32), max_size=4)),
    "ints": (pa.large_list(pa.field("item", pa.uint8(), nullable=False)), st.lists(st.integers(0, 255), max_size=4)),
}
EPOCH = datetime.datetime(1970, 1, 1)


def frame(value: Any) -> bytes:
    """The definition again, from the words in `rows`."""
    match value:
        case None:
            return b"\xff" * 8
        case bool():
            body = bytes([value])
        case int():
            body = (value % 2**64).to_bytes(8, "little")
        case float():
            body = b"\0\0\0\0\0\0\xf8\x7f" if math.isnan(value) else struct.pack("<d", value)
        case str():
            body = value.encode()
        case bytes():
            body = value
        case datetime.datetime():
            body = ((value - EPOCH) // datetime.timedelta(microseconds=1)).to_bytes(8, "little", signed=True)
        case datetime.date():
            body = (value.toordinal() - EPOCH.toordinal()).to_bytes(8, "little", signed=True)
        case _:
            body = b"".join(map(frame, value))
    return len(body).to_bytes(8, "little") + body


def hashes_of(batch: pa.RecordBatch) -> list[bytes]:
    octets = content_hashes(batch)
    return [octets[at : at + 16] for at in range(0, len(octets), 16)]


@given(st.data())
def test_content_hashes_follow_the_definition(draws: st.DataObject) -> None:
    """Catches an offset taken for a length, a null taken for empty, and slices read from their start."""
    names = draws.draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=4, unique=True))
    row = st.tuples(st.text(max_size=9), *(st.none() | KINDS[name][1] for name in names))
    rows = draws.draw(st.lists(row, max_size=8))
    schema = raw_schema([pa.field(name, KINDS[name][0]) for name in names])
    arrays = [pa.array([row[at] for row in rows], field.type) for at, field in enumerate(schema)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    start = draws.draw(st.integers(0, len(rows)))
    expected = []
    for row_ in rows[start:]:
        content = b"".join(map(frame, row_)) if names else row_[0].encode()
        expected.append(blake3.blake3(content).digest()[:16])
    assert hashes_of(batch.slice(start)) == expected


def test_content_hashes_never_change() -> None:
    """Ids in stored tables depend on these bytes: a failure here is a change of format."""
    text = pa.array(["", "Hello, world!\n", "\u00e9\U0001f600"], pa.large_string())
    alone = pa.RecordBatch.from_arrays([text], schema=raw_schema())
    assert [one.hex() for one in hashes_of(alone)] == GOLDEN_ALONE
    columns = {
        "s": pa.array(["x", None, ""]),
        "i": pa.array([-1, 2**40, None]),
        "d": pa.array([0.5, float("nan"), -0.0]),
        "b": pa.array([True, None, False]),
        "l": pa.array([[1, 2], [], None], pa.large_list(pa.int32())),
    }
    schema = raw_schema([pa.field(name, column.type) for name, column in columns.items()])
    wide = pa.RecordBatch.from_arrays([text, *columns.values()], schema=schema)
    assert [one.hex() for one in hashes_of(wide)] == GOLDEN_WIDE


GOLDEN_ALONE = [
    "af1349b9f5f9a1a6a0404dea36dcc949",
    "94f1675bac4f8bc3c593c63dbf5fe78a",
    "fd99dca51c60c7436f6bd9d73b934635",
]
GOLDEN_WIDE = [
    "24f0bfb420ae04459662238ee4bd6507",
    "126982be7c2973f91716996e5918befa",
    "dc2af72db7ad05c77bf44afad3a56afa",
]


def test_the_width_of_a_type_does_not_show() -> None:
    values = {"a": [1, None], "b": ["x", ""]}
    narrow = [pa.array(values["a"], pa.int8()), pa.array(values["b"], pa.string())]
    wide = [pa.array(values["a"], pa.int64()), pa.array(values["b"], pa.large_string())]
    text = pa.array(["t", "u"], pa.large_string())
    first, second = (
        hashes_of(pa.RecordBatch.from_arrays([text, *columns], names=["text", "a", "b"])) for columns in (narrow, wide)
    )
    assert first == second


def test_what_lies_under_a_null_does_not_show() -> None:
    text = pa.array(["t"], pa.large_string())
    dirty = pa.Array.from_buffers(pa.int64(), 1, [pa.py_buffer(b"\0"), pa.py_buffer(np.array([77]))])
    clean = pa.array([None], pa.int64())
    schema = raw_schema([pa.field("a", pa.int64())])
    assert hashes_of(pa.RecordBatch.from_arrays([text, dirty], schema=schema)) == hashes_of(
        pa.RecordBatch.from_arrays([text, clean], schema=schema)
    )


def test_row_bytes_count_what_grows() -> None:
    columns = [
        pa.array(["\u00e9", "", "abc"], pa.large_string()),
        pa.array([1, None, 3]),
        pa.array([None, "xy", ""]),
        pa.array([[1.0], None, [1.0, 2.0]], pa.large_list(pa.float32())),
        pa.array([True, False, None]),
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=["text", "i", "s", "l", "b"])
    assert row_bytes(batch).tolist() == [2 + 8 + 0 + 8 + 8, 8 + 2 + 8, 3 + 8 + 16 + 8]
    assert row_bytes(batch.slice(2)).tolist() == [35]


@pytest.mark.parametrize("columns", [[], [pa.field("n", pa.int64()), pa.field("s", pa.string())]])
def test_a_builder_starts_again_and_may_be_empty(columns: list[pa.Field]) -> None:
    builder = RowBuilder(raw_schema(columns))
    for number in range(2):
        empty = builder.take()
        assert empty.content.num_rows == len(empty.line) == 0
        assert empty.content.schema.equals(raw_schema(columns))
        builder.texts.append(b"t")
        builder.files.append(number)
        builder.lines.append(number + 1)
        if columns:
            builder.values.append([number, None])
        rows = builder.take()
        assert rows.content.to_pylist() == [{"text": "t", **({"n": number, "s": None} if columns else {})}]
        assert (rows.file.tolist(), rows.line.tolist()) == ([number], [number + 1])
