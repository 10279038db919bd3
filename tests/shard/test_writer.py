"""Equal values give equal bytes, however Arrow happens to hold them."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST, digest_of
from pyfactory.errors import InvalidInputError
from pyfactory.shard.layout import key_of_id, raw_schema
from pyfactory.shard.writer import encode_shard, make_side, token_batch

NUMBERS = pa.large_list(pa.field("item", pa.int16(), nullable=True))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=5),
    pa.large_string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.large_binary(): st.binary(max_size=5),
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.date32(): st.dates(),
    pa.timestamp("us", tz="UTC"): st.datetimes(timezones=st.just(datetime.UTC)),
    NUMBERS: st.lists(st.none() | st.integers(-(2**15), 2**15 - 1), max_size=4),
}


def file_of(array: pa.Array) -> bytes:
    """Return the shard of a raw table with this column and a constant text."""
    schema = raw_schema([pa.field("c", array.type)])
    text = pa.array(["t"] * len(array), pa.large_string())
    return bytes(encode_shard(pa.RecordBatch.from_arrays([text, array], schema=schema)))


def values_of(shard: bytes) -> list[Any]:
    values: list[Any] = pa.ipc.open_file(shard).get_batch(0).column(1).to_pylist()
    return values


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.Array, list[Any], list[Any]]:
    """A column with nulls, what surrounds it in a larger array, and what lies under its nulls."""
    type_ = draw(st.sampled_from(list(VALUES)))
    values = draw(st.lists(st.none() | VALUES[type_], max_size=20))
    around = draw(st.lists(VALUES[type_], min_size=1, max_size=9))
    rubbish = draw(st.lists(VALUES[type_], min_size=len(values), max_size=len(values)))
    return pa.array(values, type_), around, rubbish


@given(columns())
def test_bytes_depend_on_values_only(case: tuple[pa.Array, list[Any], list[Any]]) -> None:
    """Slices, needless bitmaps and rubbish under nulls leave no trace.

    Catches writing any buffer as it is: without rebased offsets, without cleared values, without cut trailing bits.
    """
    array, around, rubbish = case
    shard = file_of(array)
    assert values_of(shard) == array.to_pylist()
    larger = pa.array([*around, *array.to_pylist(), None, *around], array.type)
    assert file_of(larger.slice(len(around), len(array))) == shard
    under = pa.array(rubbish, array.type)
    filled = pa.array([r if v is None else v for v, r in zip(array.to_pylist(), rubbish, strict=True)], array.type)
    assert file_of(_masked(filled, array)) == shard
    assert (
        file_of(_masked(pa.concat_arrays([under, filled]), pa.concat_arrays([array, array])).slice(len(array))) == shard
    )


def _masked(filled: pa.Array, like: pa.Array) -> pa.Array:
    """Put the nulls of `like` over an array, whose values stay underneath; ones lie behind the last bit."""
    bits = [*like.is_valid().to_pylist(), *[True] * 13]
    bitmap = pa.array(bits, pa.bool_()).buffers()[1]
    buffers = filled.buffers()[1:]
    if pa.types.is_large_list(filled.type):
        return pa.Array.from_buffers(filled.type, len(filled), [bitmap, buffers[0]], children=[filled.values])
    return pa.Array.from_buffers(filled.type, len(filled), [bitmap, *buffers])


def test_a_bitmap_without_nulls_is_not_written() -> None:
    plain = pa.array([1, 2, 3], pa.int64())
    ones = pa.py_buffer(b"\xff")
    assert file_of(pa.Array.from_buffers(pa.int64(), 3, [ones, plain.buffers()[1]])) == file_of(plain)


def test_bits_behind_the_last_are_cleared() -> None:
    loud = pa.Array.from_buffers(pa.bool_(), 3, [None, pa.py_buffer(b"\xff")])
    assert file_of(loud) == file_of(pa.array([True] * 3))


def test_empty_columns_have_one_form() -> None:
    """Arrow lets the offsets of an empty column be absent."""
    absent = pa.Array.from_buffers(pa.large_binary(), 0, [None, pa.py_buffer(b""), pa.py_buffer(b"")])
    assert (
        file_of(absent) == file_of(pa.array([], pa.large_binary())) == file_of(pa.array([b"x"], pa.large_binary())[1:])
    )


def test_names_and_metadata_of_lists_leave_no_trace() -> None:
    element = pa.large_list(pa.field("element", pa.int16(), metadata={"PARQUET:field_id": "3"}))
    assert file_of(pa.array([[1], []], element)) == file_of(pa.array([[1], []], pa.large_list(pa.int16())))
    batch = pa.record_batch([pa.array(["a"], pa.large_string())], schema=raw_schema())
    assert encode_shard(batch.replace_schema_metadata({"pandas": "{}"})) == encode_shard(batch)


def test_bytes_are_frozen() -> None:
    """The digest was recorded with pyarrow 26: another pyarrow that writes other bytes would break equal digests."""
    fields = [pa.field("n", pa.int32()), pa.field("l", pa.large_list(pa.float32())), pa.field("b", pa.bool_())]
    columns = [
        pa.array(["one", "", "drei"], pa.large_string()),
        pa.array([1, None, 3], pa.int32()),
        pa.array([[1.5], None, []], pa.large_list(pa.float32())),
        pa.array([True, False, None]),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=raw_schema(fields))
    assert digest_of(encode_shard(batch)) == "91b099256c0fbd2abcfbfff65f44c2d0954e86c14f4b36fa02c6e82fa356f2c5"
    tokens = token_batch(np.array([5, 6, 7, 65535], np.uint16), np.array([0, 2, 2, 4]))
    assert digest_of(encode_shard(tokens)) == "a6a4218732c525807ee1921e76a1d8e8ba82153668a5a3fcd90e7ec01dc02b74"


def test_shards_are_plain_arrow_files() -> None:
    """Any Arrow reader opens them: one batch, V5, nothing compressed, no metadata."""
    shard = encode_shard(token_batch(np.arange(9, dtype=np.uint32), np.array([0, 4, 4, 9])))
    reader = pa.ipc.open_file(shard)
    assert reader.num_record_batches == 1 and reader.schema.metadata is None
    reader.get_batch(0).validate(full=True)
    assert reader.get_batch(0).to_pydict() == {"tokens": [[0, 1, 2, 3], [], [4, 5, 6, 7, 8]]}
    assert np.arange(9, dtype="<u4").tobytes() in bytes(shard)


def test_token_slices_are_compacted() -> None:
    batch = token_batch(np.arange(9, dtype=np.uint8), np.array([0, 4, 4, 9]))
    tail = token_batch(np.arange(4, 9, dtype=np.uint8), np.array([0, 0, 5]))
    assert encode_shard(batch.slice(1)) == encode_shard(tail)


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2], [0, 2, 1, 3], [0, 4]])
def test_offsets_that_are_not_documents_are_refused(offsets: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="3 tokens"):
        token_batch(np.arange(3, dtype=np.uint8), np.array(offsets, np.int64))
    with pytest.raises(InvalidInputError, match="int64"):
        token_batch(np.arange(3), np.array([0, 3]))


def test_nulls_where_none_may_be_are_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["a", None], pa.large_string())], schema=raw_schema())
    with pytest.raises(InvalidInputError, match="'text' holds 1 null"):
        encode_shard(batch)
    strict = pa.large_list(pa.field("item", pa.int8(), nullable=False))
    children = [pa.array([1, None], pa.int8())]
    column = pa.Array.from_buffers(strict, 1, [None, pa.py_buffer(np.array([0, 2]))], children=children)
    with pytest.raises(InvalidInputError, match="'c' has a list with a null"):
        file_of(column)


def test_tables_without_text_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no table"):
        encode_shard(pa.record_batch({"a": [1]}))


@given(st.lists(st.text(max_size=8), max_size=30))
def test_sides_sort_keys_and_keep_ids_in_row_order(ids: list[str]) -> None:
    """Catches keys sorted without their rows, and an unstable order of equal ids."""
    batch = pa.ipc.open_file(make_side(pa.array(ids, pa.large_string()))).get_batch(0)
    assert batch.schema.names == ["id", "key", "row"]
    assert batch.column("id").to_pylist() == ids
    expected = sorted((key_of_id(id_), row) for row, id_ in enumerate(ids))
    assert list(zip(batch.column("key").to_pylist(), batch.column("row").to_pylist(), strict=True)) == expected


def test_sides_name_the_origin() -> None:
    files = [digest_of(b"a"), digest_of(b"b")]
    ids = pa.array(["x", "y", "z"], pa.large_string())
    side = make_side(ids, files, np.array([1, 0, 1], np.int32), np.array([7, 1, 9]))
    batch = pa.ipc.open_file(side).get_batch(0)
    assert batch.schema.metadata == {b"files": f'["{files[0]}","{files[1]}"]'.encode()}
    assert batch.column("file").to_pylist() == [1, 0, 1]
    assert batch.column("line").to_pylist() == [7, 1, 9]


def test_sides_depend_on_values_only() -> None:
    files = [NO_DIGEST]
    ids = pa.array(["no", "x", "y"], pa.large_string())
    sliced = make_side(ids[1:], files, np.zeros(6, np.int32)[::3], np.array([9, 4, 5])[1:])
    assert sliced == make_side(pa.array(["x", "y"], pa.large_string()), files, np.zeros(2, np.int32), np.array([4, 5]))


@pytest.mark.parametrize(
    ("file", "line"),
    [([0], [1, 2]), ([0, 1], [1, 2]), ([-1, 0], [1, 2]), ([0, 0], [0, 1]), (None, [1, 2]), ([0, 0], None)],
)
def test_impossible_origins_are_refused(file: list[int] | None, line: list[int] | None) -> None:
    ids = pa.array(["x", "y"], pa.large_string())
    files = None if file is None else np.array(file, np.int32)
    lines = None if line is None else np.array(line, np.int64)
    with pytest.raises(InvalidInputError, match="origin"):
        make_side(ids, [NO_DIGEST], files, lines)


def test_a_missing_id_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no id"):
        make_side(pa.array(["x", None], pa.large_string()))
