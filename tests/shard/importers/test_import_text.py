"""Text documents: a file is a record, or a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.shard.importers.rows import RowBuilder
from pyfactory.shard.importers.selection import Selection, parse_columns, select
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.importers.streams import RawFile
from pyfactory.shard.importers.text import read_document
from pyfactory.shard.layout import raw_schema


def read(folder: Path, selection: Selection) -> RowBuilder:
    rows = RowBuilder(selection.schema)
    for number, source in enumerate(expand([folder])):
        with RawFile(source, lambda count: None) as raw:
            read_document(raw, number, selection, rows)
    return rows


def test_documents_are_whole_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    (tmp_path / "d" / "b").write_bytes(b"\xef\xbb\xbf\xc3\xa9\xef\xbb\xbf")
    selection = select([], text="text", id="path", columns=parse_columns(["path"], "text"), first_parquet=None)
    rows = read(tmp_path, selection)
    assert rows.texts == [b"one\r\ntwo\n", b"\xc3\xa9\xef\xbb\xbf"]  # only the first mark is one
    assert rows.ids == ["a.txt", "d/b"]
    assert rows.take().content.column("path").to_pylist() == ["a.txt", "d/b"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"ab\xff", "not valid UTF-8 at byte 3"),
        (b"x" * 61, "longer than the limit of 60 bytes"),
    ],
)
def test_bad_documents_say_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_bytes(b"x" * 60)
    rows = read(tmp_path, Selection("text", None, raw_schema(), max_record_bytes=60))
    assert rows.bad == [(0, 1, reason)]
    assert (rows.texts, rows.files, rows.lines) == ([b"x" * 60], [1], [1])
