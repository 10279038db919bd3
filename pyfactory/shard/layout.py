"""What the columns of a shard may be, and how a schema is written down in a commit.

A *content shard* holds one record batch of content and nothing else: the columns of a raw table (`text` first) or
the token lists of a token table. A *side shard* stands beside it with the ids and origins of the same rows, so that the
digest of the content depends on neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pyfactory.core.digest import Hasher
from pyfactory.errors import CorruptError, InvalidInputError

__all__ = [
    "FILES_KEY",
    "KEY_BYTES",
    "TEXT",
    "TOKENS",
    "TOKEN_WIDTHS",
    "canonical_schema",
    "is_side_schema",
    "key_of_id",
    "raw_schema",
    "schema_from_value",
    "schema_to_value",
    "side_schema",
    "text_columns",
    "token_schema",
    "token_width",
]

TEXT = "text"
"""Name of the first column of a raw table."""

TOKENS = "tokens"
"""Name of the only column of a token table."""

TOKEN_WIDTHS = (1, 2, 4)
"""Bytes per token that a token table may have."""

KEY_BYTES = 16
"""Length of the key of a record id in a side shard."""

FILES_KEY = b"files"
"""Schema metadata key of a side shard: the canonical JSON list of its file digests."""

_NUMBERS: dict[str, pa.DataType] = {
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float": pa.float32(),
    "double": pa.float64(),
}
_PLAIN: dict[str, pa.DataType] = {
    **_NUMBERS,
    "bool": pa.bool_(),
    "date32": pa.date32(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
}
_TEXT_OF_PLAIN = {type_: text for text, type_ in _PLAIN.items()}
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([A-Za-z0-9_+\-/:]{1,64}))?\]")
_LIST = re.compile(r"large_list<item: ([a-z0-9]+)( not null)?>")


def raw_schema(columns: Iterable[pa.Field] = ()) -> pa.Schema:
    """Return the schema of a raw table: `text` (large_string, never null), then the kept columns in the given order.

    Raises:
        InvalidInputError: A column is called `text`, occurs twice or has a type that no shard stores.
    """
    return canonical_schema(pa.schema([pa.field(TEXT, pa.large_string(), nullable=False), *columns]))


def token_schema(width: int) -> pa.Schema:
    """Return the schema of a token table whose tokens take `width` bytes (1, 2 or 4); one row is one document."""
    if width not in TOKEN_WIDTHS:
        raise InvalidInputError(f"tokens of {width!r} bytes cannot be stored", hint="choose a width of 1, 2 or 4 bytes")
    item = pa.field("item", _NUMBERS[f"uint{8 * width}"], nullable=False)
    return pa.schema([pa.field(TOKENS, pa.large_list(item), nullable=False)])


def side_schema(origin: bool) -> pa.Schema:
    """Return the schema of a side shard, without its metadata; `origin`: with the columns `file` and `line`."""
    fields = [("id", pa.large_string()), ("key", pa.binary(KEY_BYTES)), ("row", pa.uint32())]
    if origin:
        fields += [("file", pa.int32()), ("line", pa.int64())]
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in fields])


def key_of_id(record_id: str) -> bytes:
    """Return the 16-byte key under which a side shard sorts a record id: the start of the BLAKE3 of its UTF-8."""
    try:
        return Hasher(record_id.encode()).digest(length=KEY_BYTES)
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the record id {record_id!r} is not valid Unicode text") from error


def token_width(schema: pa.Schema) -> int | None:
    """Return the bytes per token if this is the schema of a token table, else None."""
    for width in TOKEN_WIDTHS:
        if schema.equals(token_schema(width)):
            return width
    return None


def is_side_schema(schema: pa.Schema) -> bool:
    """Tell whether the columns are those of a side shard (its metadata is not looked at)."""
    return any(schema.equals(side_schema(origin)) for origin in (False, True))


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that hold text, in order."""
    return [field.name for field in schema if field.type in (pa.string(), pa.large_string())]


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema as shards store it: no metadata, list items called `item`.

    Raises:
        InvalidInputError: The columns are neither those of a token table nor those of a raw table.
    """
    result = pa.schema([pa.field(name, _type_of(text), nullable) for name, text, nullable in schema_to_value(schema)])
    if token_width(result) is None and (not len(result) or not result.field(0).equals(_TEXT_FIELD)):
        raise InvalidInputError(
            f"columns {_listing(schema)} are no table",
            hint="a raw table starts with `text: large_string not null`, a token table has only a token list `tokens`",
        )
    return result


def schema_to_value(schema: pa.Schema) -> list[list[Any]]:
    """Return a schema as the canonical value [[name, type, nullable], ...] that trees store.

    Raises:
        InvalidInputError: A column occurs twice, has no name or has a type that no shard stores.
    """
    _check_names(schema.names, InvalidInputError, "a table")
    return [[field.name, _text_of(field), field.nullable] for field in schema]


def schema_from_value(value: object, what: str = "a stored schema") -> pa.Schema:
    """Return the schema of a stored value; `what` names it in the CorruptError that a hostile value causes."""
    fields = []
    for column in value if isinstance(value, list) else [value]:
        match column:
            case [str(name), str(text), bool(nullable)]:
                fields.append(_stored_field(name, text, nullable, what))
            case _:
                raise CorruptError(f"{what} is not a list of [name, type, nullable]: {_short(column)}")
    _check_names([field.name for field in fields], CorruptError, what)
    return pa.schema(fields)


_TEXT_FIELD = pa.field(TEXT, pa.large_string(), nullable=False)


def _stored_field(name: str, text: str, nullable: bool, what: str) -> pa.Field:
    try:
        return pa.field(name, _type_of(text), nullable)
    except (KeyError, UnicodeEncodeError) as error:
        raise CorruptError(f"{what} has a column {_short(name)} of unknown type {_short(text)}") from error


def _check_names(names: list[str], error: type[InvalidInputError] | type[CorruptError], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise error(f"{what} has a column without a name")
        if name in seen:
            raise error(f"{what} has two columns called {_short(name)}")
        seen.add(name)


def _text_of(field: pa.Field) -> str:
    type_ = field.type
    if type_ in _TEXT_OF_PLAIN:
        return _TEXT_OF_PLAIN[type_]
    text = str(type_)
    if pa.types.is_large_list(type_) and type_.value_type in _NUMBERS.values():
        rest = "" if type_.value_field.nullable else " not null"
        return f"large_list<item: {_TEXT_OF_PLAIN[type_.value_type]}{rest}>"
    if pa.types.is_timestamp(type_) and _TIMESTAMP.fullmatch(text):
        return text
    raise InvalidInputError(
        f"column {_short(field.name)} has the type {text}, which no shard stores",
        hint=f"cast it to one of {', '.join(_PLAIN)}, timestamp or large_list of numbers, or drop it",
    )


def _type_of(text: str) -> pa.DataType:
    """Return the type that a text names, or raise KeyError."""
    if timestamp := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(timestamp[1], tz=timestamp[2])
    if items := _LIST.fullmatch(text):
        return pa.large_list(pa.field("item", _NUMBERS[items[1]], nullable=items[2] is None))
    return _PLAIN[text]


def _listing(schema: pa.Schema) -> str:
    return json.dumps([f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in schema][:16])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
