"""The allowed columns, their canonical text, and hostile schemas."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.shard.layout import (
    canonical_schema,
    is_side_schema,
    key_of_id,
    raw_schema,
    schema_from_value,
    schema_to_value,
    side_schema,
    text_columns,
    token_schema,
    token_width,
)

TYPES = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date32": pa.date32(),
    "timestamp[s]": pa.timestamp("s"),
    "timestamp[ms]": pa.timestamp("ms"),
    "timestamp[us]": pa.timestamp("us"),
    "timestamp[ns, tz=Europe/Berlin]": pa.timestamp("ns", tz="Europe/Berlin"),
    "timestamp[us, tz=+01:00]": pa.timestamp("us", tz="+01:00"),
    "large_list<item: float>": pa.large_list(pa.float32()),
    "large_list<item: uint16 not null>": pa.large_list(pa.field("item", pa.uint16(), nullable=False)),
}
REFUSED = [
    pa.list_(pa.int64()),
    pa.large_list(pa.string()),
    pa.large_list(pa.bool_()),
    pa.large_list(pa.large_list(pa.int64())),
    pa.dictionary(pa.int32(), pa.string()),
    pa.struct([pa.field("a", pa.int64())]),
    pa.decimal128(10),
    pa.float16(),
    pa.date64(),
    pa.time32("s"),
    pa.duration("s"),
    pa.binary(16),
    pa.string_view(),
    pa.null(),
    pa.timestamp("us", tz="x" * 65),
]


@pytest.mark.parametrize("text", TYPES)
def test_each_type_has_one_text(text: str) -> None:
    """The texts are stored in commits: this list is the format, and may grow but never change."""
    field = pa.field("c", TYPES[text], nullable=False)
    assert schema_to_value(pa.schema([field])) == [["c", text, False]]
    assert schema_from_value([["c", text, False]]).equals(pa.schema([field]), check_metadata=True)


@pytest.mark.parametrize("type_", REFUSED, ids=str)
def test_other_types_are_refused_by_column(type_: pa.DataType) -> None:
    with pytest.raises(InvalidInputError, match="'odd'"):
        raw_schema([pa.field("odd", type_)])


def test_list_items_are_renamed_and_metadata_is_dropped() -> None:
    column = pa.field("l", pa.large_list(pa.field("element", pa.int8(), nullable=False)), metadata={"a": "b"})
    schema = canonical_schema(raw_schema().append(column).with_metadata({"c": "d"}))
    expected = pa.large_list(pa.field("item", pa.int8(), nullable=False))
    assert schema.metadata is None and schema.field("l").metadata is None
    assert schema.field("l").type == expected and schema.field("l").type.value_field.name == "item"


@pytest.mark.parametrize("width", [1, 2, 4])
def test_token_tables_are_known_by_their_schema(width: int) -> None:
    schema = token_schema(width)
    assert schema_to_value(schema) == [["tokens", f"large_list<item: uint{8 * width} not null>", False]]
    assert token_width(schema) == width
    assert canonical_schema(schema).equals(schema)


def test_near_token_tables_are_not_token_tables() -> None:
    """Catches a test by type alone, which lets nulls or a second column through to the gather kernels."""
    item = pa.field("item", pa.uint16(), nullable=False)
    near = [
        pa.schema([pa.field("tokens", pa.large_list(item), nullable=True)]),
        pa.schema([pa.field("tokens", pa.large_list(pa.uint16()), nullable=False)]),
        pa.schema([pa.field("ids", pa.large_list(item), nullable=False)]),
        token_schema(2).append(pa.field("x", pa.int8())),
        pa.schema([pa.field("tokens", pa.large_list(pa.field("item", pa.uint64(), nullable=False)), nullable=False)]),
    ]
    for schema in near:
        assert token_width(schema) is None
        with pytest.raises(InvalidInputError, match="no table"):
            canonical_schema(schema)
    with pytest.raises(InvalidInputError, match="3 bytes"):
        token_schema(3)


def test_a_raw_table_starts_with_text() -> None:
    text = pa.field("text", pa.large_string(), nullable=False)
    assert raw_schema([pa.field("n", pa.int8())]).names == ["text", "n"]
    for fields in (
        [],
        [pa.field("n", pa.int8()), text],
        [pa.field("text", pa.string(), nullable=False)],
        [text.with_nullable(True)],
    ):
        with pytest.raises(InvalidInputError, match="no table"):
            canonical_schema(pa.schema(fields))
    with pytest.raises(InvalidInputError, match="two columns called 'text'"):
        raw_schema([text])
    with pytest.raises(InvalidInputError, match="without a name"):
        raw_schema([pa.field("", pa.int8())])


def test_side_schemas_are_not_tables() -> None:
    for origin in (False, True):
        assert is_side_schema(side_schema(origin))
        with pytest.raises(InvalidInputError):
            canonical_schema(side_schema(origin))
    assert not is_side_schema(raw_schema())
    assert side_schema(True).names == ["id", "key", "row", "file", "line"]


def test_text_columns() -> None:
    kept = [pa.field("a", pa.string()), pa.field("b", pa.binary()), pa.field("c", pa.large_string())]
    assert text_columns(raw_schema(kept)) == ["text", "a", "c"]


def test_key_of_id_is_the_start_of_blake3() -> None:
    """The key of "abc", from the BLAKE3 of "abc" that b3sum prints (6437b3ac38465133ffb63b75273a8db5...)."""
    assert key_of_id("abc").hex() == "6437b3ac38465133ffb63b75273a8db5"
    with pytest.raises(InvalidInputError, match="Unicode"):
        key_of_id("\ud800")


COLUMN = st.tuples(st.text(min_size=1), st.sampled_from(sorted(TYPES)), st.booleans()).map(list)


@given(st.lists(COLUMN, unique_by=lambda column: column[0]))
def test_schemas_survive_the_round_trip(value: list[list[object]]) -> None:
    assert schema_to_value(schema_from_value(value)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(sorted(TYPES)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(JSON | st.lists(st.lists(JSON, min_size=3, max_size=3), max_size=3))
def test_hostile_schemas_are_corrupt_or_canonical(value: object) -> None:
    try:
        schema = schema_from_value(value, "tree 12ab")
    except CorruptError as error:
        assert "tree 12ab" in str(error)
    else:
        assert schema_to_value(schema) == value


@pytest.mark.parametrize(
    "value",
    [
        "text",
        [["a", "int64"]],
        [["a", "int64", 1]],
        [["a", "int65", True]],
        [["a", "timestamp[us, tz=]", True]],
        [["a", "large_list<item: string>", True]],
        [["a", "int64 ", True]],
        [["a", "int64", True], ["a", "int8", True]],
        [["", "int64", True]],
        [["\ud800", "int64", True]],
    ],
)
def test_malformed_schemas_are_corrupt(value: object) -> None:
    with pytest.raises(CorruptError, match="a stored schema"):
        schema_from_value(value)
