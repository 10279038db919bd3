"""Texts of shards for gates: which tables have them, and their values row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from pyfactory.repo.gates.base import Proposal
from pyfactory.shard.layout import schema_from_value, text_columns

__all__ = ["text_obstacle", "texts_at"]


def text_obstacle(proposal: Proposal, columns: Iterable[str]) -> str:
    """Return why texts of a table cannot be judged ("has no text column 'title'"), or "" if they can."""
    if proposal.after is None:
        return "would be removed"
    known = text_columns(schema_from_value([list(column) for column in proposal.after.schema]))
    missing = [column for column in columns if column not in known]
    return f"has no text column {', '.join(map(repr, missing))}" if missing else ""


def texts_at(column: pa.Array, rows: Iterable[int]) -> Iterator[str]:
    """Yield the texts of rows of a text column, "" for null, one at a time; bytes that are no UTF-8 are replaced."""
    for row in rows:
        try:
            yield column[int(row)].as_py() or ""
        except UnicodeDecodeError:
            # Bytes that cannot be read are no way round a gate.
            yield column[int(row)].as_buffer().to_pybytes().decode(errors="replace")
