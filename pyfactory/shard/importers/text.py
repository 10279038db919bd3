"""Text documents: a whole file is one record, UTF-8."""

from __future__ import annotations

from pyfactory.shard.importers.rows import Bad, RowBuilder
from pyfactory.shard.importers.selection import RESERVED_ID, Selection
from pyfactory.shard.importers.streams import RawFile

__all__ = ["read_document"]

_PIECE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


def read_document(raw: RawFile, file: int, selection: Selection, rows: RowBuilder) -> None:
    """Add a file as one record, on line 1, or as a bad one.

    Args:
        raw: The file; a byte order mark at its start is left out.
        file: Its number in the import.
        selection: What to take; the field `path` is the only one.
        rows: Where the record goes.
    """
    content = _content(raw, selection.max_record_bytes)
    reason = _reason(content, selection.max_record_bytes)
    if selection.id is not None and raw.source.member.startswith(RESERVED_ID):
        reason = f"its path begins with {RESERVED_ID!r}, as only the ids of forgotten records do"
    if content is None or reason:
        rows.bad.append(Bad(file, 1, reason))
        return
    rows.texts.append(content)
    rows.files.append(file)
    rows.lines.append(1)
    if selection.columns:
        rows.values.append([raw.source.member] * len(selection.columns))
    if selection.id is not None:
        rows.ids.append(raw.source.member)


def _content(raw: RawFile, limit: int) -> bytes | None:
    """Return the bytes of a file, or None if there are more than `limit`."""
    pieces: list[bytes] = []
    held = 0
    while piece := raw.read(_PIECE_BYTES):
        held += len(piece)
        if held > limit:
            return None
        pieces.append(piece)
    return b"".join(pieces).removeprefix(_BOM)


def _reason(content: bytes | None, limit: int) -> str:
    if content is None:
        return f"longer than the limit of {limit:,} bytes"
    if not content:
        return "the file is empty"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start + 1}"
    return ""
