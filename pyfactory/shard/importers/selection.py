"""What an import takes from each record, checked against the files before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import pyarrow as pa

from pyfactory.errors import InvalidInputError
from pyfactory.shard.blank import FORGOTTEN
from pyfactory.shard.importers.sources import Format, SourceFile
from pyfactory.shard.layout import TEXT, raw_schema

__all__ = [
    "JSON_TYPES",
    "MAX_ID_BYTES",
    "MAX_RECORD_BYTES",
    "PATH",
    "RESERVED_ID",
    "STRINGS",
    "Column",
    "Selection",
    "near",
    "parse_columns",
    "select",
]

JSON_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
"""Types that a kept column may be given by name."""

STRINGS = (pa.string(), pa.large_string())
"""Types of a column of strings."""

PATH = "path"
"""The only field of a text document."""

MAX_RECORD_BYTES = 256 << 20
"""A longer line, row or document is a bad record."""

MAX_ID_BYTES = 4096
"""A longer record id is a bad record."""

RESERVED_ID = FORGOTTEN
"""A record id that starts so is a bad record: it stands in place of the id of a forgotten one."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column to keep.

    Attributes:
        name: Its name in the files and in the table.
        type: As the caller wrote it, None if not written: a string in JSON lines, as it is in Parquet.
    """

    name: str
    type: pa.DataType | None = None

    def allows(self, type_: pa.DataType) -> bool:
        """Tell whether a Parquet column of this type will do."""
        return self.type is None or type_ == self.type or (self.type in STRINGS and type_ in STRINGS)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken from each record.

    Attributes:
        text: Field that holds the text.
        id: Field that holds the record id; None: ids are made from the content.
        schema: Columns of the table; `text` first, the others have the names of their fields.
        max_record_bytes: A longer record is bad.
    """

    text: str
    id: str | None
    schema: pa.Schema
    max_record_bytes: int = MAX_RECORD_BYTES

    @property
    def columns(self) -> list[pa.Field]:
        """The kept columns beside the text."""
        return list(self.schema)[1:]


def parse_columns(columns: Sequence[str], text: str) -> list[Column]:
    """Return the columns named by `name` or `name:type`; a name that holds a colon needs a type.

    Raises:
        InvalidInputError: A name is missing, occurs twice or is taken, or there is no such type.
    """
    parsed: list[Column] = []
    for column in columns:
        name, colon, type_ = column.rpartition(":")
        if colon and type_ not in JSON_TYPES:
            hint = f"write NAME or NAME:{'|'.join(JSON_TYPES)}"
            raise InvalidInputError(f"column {column!r} has no known type", hint=hint)
        result = Column(name, JSON_TYPES[type_]) if colon else Column(column)
        if not result.name:
            raise InvalidInputError(f"column {column!r} has no name", hint="write NAME or NAME:TYPE")
        if result.name in (TEXT, text):
            raise InvalidInputError(f"column {result.name!r} is the text already", hint="leave it out")
        if any(result.name == other.name for other in parsed):
            raise InvalidInputError(f"column {result.name!r} is named twice", hint="name each column once")
        parsed.append(result)
    return parsed


def select(
    files: Sequence[SourceFile],
    *,
    text: str,
    id: str | None,
    columns: Sequence[Column],
    first_parquet: pa.Schema | None,
) -> Selection:
    """Return the selection for files of any formats.

    Args:
        files: All files of the import.
        text: Field of the text.
        id: Field of the record id, or None.
        columns: What to keep.
        first_parquet: Schema of the first Parquet file, which decides the types that the caller left open; None if
            there is none.

    Raises:
        InvalidInputError: Files of different formats cannot give the same columns.
    """
    first = {file.format: file for file in reversed(files)}
    if Format.TEXT in first:
        _check_text_documents(first[Format.TEXT], id, columns)
    fields = [pa.field(column.name, _type_of(column, first, first_parquet)) for column in columns]
    return Selection(text, id, raw_schema(fields))


def near(name: str, names: Sequence[str]) -> str:
    """Return a hint that lists what a mistyped name may have meant."""
    close = get_close_matches(name, names, 3) or list(names[:8])
    return f"there is {', '.join(repr(one[:60]) for one in close)}" if close else "there is none at all"


def _type_of(column: Column, first: dict[Format, SourceFile], parquet: pa.Schema | None) -> pa.DataType:
    if parquet is None:
        return column.type or pa.string()
    # How often the column occurs, and whether its type will do, is checked for every Parquet file.
    found = [field.type for field in parquet if field.name == column.name]
    type_ = found[0] if found else column.type or pa.string()
    if Format.JSONL in first and type_ != column.type and type_ not in STRINGS:
        raise InvalidInputError(
            f"column {column.name!r} is {type_} in {first[Format.PARQUET].path}"
            f" and {column.type or 'string'} in {first[Format.JSONL].path}",
            hint=f"write {column.name}:TYPE with the type of the Parquet file, or import the formats into two tables",
        )
    return type_


def _check_text_documents(file: SourceFile, id: str | None, columns: Sequence[Column]) -> None:
    wanted = [column.name for column in columns] + ([] if id is None else [id])
    for name in wanted:
        if name != PATH:
            raise InvalidInputError(
                f"{file.path} is read as a text document, which has no field {name!r}",
                hint=f"text documents have {PATH!r} only; JSON lines are known by the ending .jsonl or .ndjson",
            )
    for column in columns:
        if column.type not in (None, pa.string()):
            message = f"the {PATH!r} of text documents is a string, not {column.type}"
            raise InvalidInputError(message, hint="leave the type out")
