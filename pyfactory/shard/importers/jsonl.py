"""JSON lines: one object per line, UTF-8.

A blank line is no record but counts as a line. Whatever else is not an object with the wanted fields is a bad record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.rows import Bad, RowBuilder, Rows
from pyfactory.shard.importers.selection import MAX_ID_BYTES, MAX_RECORD_BYTES, RESERVED_ID, Selection, near
from pyfactory.shard.importers.streams import DamagedStreamError, RawFile, Read, refuse_changed, unpacked

__all__ = ["jsonl_fields", "read_jsonl"]

_PIECE_BYTES = 1 << 20
_MAX_INT64 = 2**63 - 1
_BOM = b"\xef\xbb\xbf"
_OTHERS = {
    b"\x1f\x8b": ("gzip", "let its name end in .jsonl.gz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "let its name end in .jsonl.zst"),
    b"PAR1": ("Parquet", "let its name end in .parquet"),
    b"\xff\xfe": ("UTF-16 text", "convert it to UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "convert it to UTF-8"),
}

Convert = Callable[[Any], Any]


def read_jsonl(raw: RawFile, file: int, selection: Selection) -> Iterator[Rows]:
    """Yield the records of a file, about one MB at a time.

    Args:
        raw: The file, compressed or not.
        file: Its number in the import.
        selection: What to take.

    Raises:
        InvalidInputError: The compressed stream is cut off or damaged, or the file holds something else.
    """
    parser = _Parser(file, selection)
    first = 1
    try:
        for lines in _lines(unpacked(raw), selection.max_record_bytes):
            if first == 1 and lines[0] is not None:
                _refuse_others(raw, lines[0])
                lines[0] = lines[0].removeprefix(_BOM)
            yield parser.parse(lines, first)
            first += len(lines)
    except DamagedStreamError as error:
        refuse_changed(raw.source)
        hint = "restore the file; what is damaged cannot be skipped"
        if first == 1:
            hint += " (a file that is not packed must not be called so)"
        raise InvalidInputError(f"{raw.source.path}:{first}: {error}", hint=hint) from error


def jsonl_fields(raw: RawFile) -> list[str]:
    """Return the fields of the first records of a file, about one MB of them; what is no record is passed over."""
    fields: dict[str, None] = {}
    for lines in _lines(unpacked(raw), MAX_RECORD_BYTES):
        for line in lines:
            try:
                record = orjson.loads((line or b"").removeprefix(_BOM))
            except ValueError:
                continue
            fields |= dict.fromkeys(record) if isinstance(record, dict) else {}
        if fields:
            break
    return list(fields)


def _refuse_others(raw: RawFile, line: bytes) -> None:
    """Refuse a file of another kind, rather than call its first line bad and, when asked to, skip it."""
    for magic, (kind, hint) in _OTHERS.items():
        if line.startswith(magic):
            raise InvalidInputError(f"{raw.source.path} holds {kind}, not JSON lines", hint=hint)


def _lines(read: Read, limit: int) -> Iterator[list[bytes | None]]:
    """Yield lines without their ends; None stands for a line longer than `limit` bytes, which is never held."""
    pending: list[bytes] = []
    held = 0
    while piece := read(_PIECE_BYTES):
        lines: list[bytes | None] = [*piece.split(b"\n")]
        rest = lines.pop() or b""
        if lines:
            lines[0] = _joined(pending, held, lines[0] or b"", limit)
            pending, held = [], 0
            yield lines
        held += len(rest)
        if held > limit:
            pending.clear()
        elif rest:
            pending.append(rest)
    if held:
        yield [_joined(pending, held, b"", limit)]


def _joined(pending: list[bytes], held: int, end: bytes, limit: int) -> bytes | None:
    return b"".join([*pending, end]) if held + len(end) <= limit else None


class _Fault(ValueError):
    """Why a record cannot be taken."""


class _Parser:
    def __init__(self, file: int, selection: Selection) -> None:
        self._file = file
        self._text = selection.text
        self._id = selection.id
        self._limit = selection.max_record_bytes
        self._columns = [(kind.name, _converter(kind.name, kind.type)) for kind in selection.columns]
        self._rows = RowBuilder(selection.schema)

    def parse(self, lines: list[bytes | None], first: int) -> Rows:
        """Return the records in lines, of which the first has the number `first`."""
        rows, loads, name, limit = self._rows, orjson.loads, self._text, self._limit
        for number, line in enumerate(lines, first):
            try:
                if len(line) > limit:  # type: ignore[arg-type]  # None raises TypeError, which is explained below
                    raise _Fault(_too_long(limit))
                record = loads(line)  # type: ignore[arg-type]
                text = record[name].encode()  # of all JSON values only strings have it
                values = [convert(record.get(column)) for column, convert in self._columns]
                if self._id is not None:
                    rows.ids.append(_record_id(record, self._id))
            except _Fault as fault:
                rows.bad.append(Bad(self._file, number, str(fault)))
            except (ValueError, KeyError, TypeError, AttributeError):
                if reason := self._reason(line):
                    rows.bad.append(Bad(self._file, number, reason))
            else:
                rows.texts.append(text)
                rows.lines.append(number)
                if values:
                    rows.values.append(values)
        rows.files = [self._file] * len(rows.texts)
        return rows.take()

    def _reason(self, line: bytes | None) -> str:
        """Return why a line is not an object with a text, or nothing for a blank line."""
        if line is None:
            return _too_long(self._limit)
        if not line.strip():
            return ""
        try:
            record = orjson.loads(line)
        except ValueError as error:
            return _not_json(line, error)
        if not isinstance(record, dict):
            return f"not an object but {_kind(record)}"
        if self._text not in record:
            return f"no field {self._text!r}: {near(self._text, list(record))}"
        return f"field {self._text!r} is {_kind(record[self._text])}, not a string"


def _too_long(limit: int) -> str:
    return f"longer than the limit of {limit:,} bytes"


def _not_json(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return f"not valid UTF-8 at byte {undecodable.start + 1}"
    if line.strip() in (b"[", b"{"):
        return "not valid JSON lines: each line must be a whole object"
    if isinstance(error, orjson.JSONDecodeError):  # whose line is always 1
        return f"not valid JSON: {error.msg} at character {error.pos + 1}"
    return f"not valid JSON: {error}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a bool"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
    return "an object"


def _record_id(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if type(value) is int:
        return str(value)
    if value is None:
        raise _Fault(f"no id in field {name!r}{'' if name in record else f': {near(name, list(record))}'}")
    if type(value) is not str:
        raise _Fault(f"id field {name!r} is {_kind(value)}, not a string or an integer")
    if not value:
        raise _Fault(f"id field {name!r} is empty")
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        raise _Fault(f"the id in field {name!r} is longer than {MAX_ID_BYTES} bytes")
    if value.startswith(RESERVED_ID):
        raise _Fault(f"the id in field {name!r} begins with {RESERVED_ID!r}, as only those of forgotten records do")
    return value


def _converter(name: str, type_: pa.DataType) -> Convert:
    """Return what takes a value of a column, or raises _Fault."""
    kinds, expected = _TAKEN.get(type_, ((str,), "a string"))
    is_double, is_integer = type_ == pa.float64(), type_ == pa.int64()

    def convert(value: Any) -> Any:
        if value is None:
            return None
        # An integer beyond 64 bits comes out of orjson as a float.
        if type(value) not in kinds or (is_integer and value > _MAX_INT64):
            shown = f" ({value!r})" if type(value) in (int, float) else ""
            raise _Fault(f"field {name!r} is {_kind(value)}{shown}, not {expected}")
        return float(value) if is_double else value

    return convert


_TAKEN: dict[pa.DataType, tuple[tuple[type, ...], str]] = {
    pa.int64(): ((int,), "an integer of 64 bits"),
    pa.float64(): ((int, float), "a double"),
    pa.bool_(): ((bool,), "a bool"),
}
