"""Parquet: columns in their types, rows by number, and files that are none."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.shard.importers.parquet import check_parquet, parquet_schema, read_parquet
from pyfactory.shard.importers.rows import Bad
from pyfactory.shard.importers.selection import Column, Selection, parse_columns, select
from pyfactory.shard.layout import raw_schema

PLAIN = Selection("text", None, raw_schema())


def read(path: Path, selection: Selection = PLAIN) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]]]:
    """Read a file; return (row, id, values...) of its good rows and (row, reason) of its bad ones."""
    good: list[tuple[Any, ...]] = []
    bad: list[Bad] = []
    for rows in read_parquet(path, 5, selection):
        rows.content.validate(full=True)
        ids = [None] * rows.content.num_rows if rows.ids is None else rows.ids.to_pylist()
        columns = [column.to_pylist() for column in rows.content.columns]
        good += zip(rows.line.tolist(), ids, *columns, strict=True)
        assert rows.file.tolist() == [5] * rows.content.num_rows
        bad += rows.bad
    return good, [(one.line, one.reason) for one in bad]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def selected(path: Path, columns: tuple[str, ...] = (), text: str = "text", id: str | None = None) -> Selection:
    kept = parse_columns(columns, text)
    selection = select([], text=text, id=id, columns=kept, first_parquet=parquet_schema(path))
    check_parquet(path, selection, kept, path)
    return selection


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_rows_are_numbered_over_row_groups(tmp_path: Path, type_: pa.DataType) -> None:
    """Catches numbers that start again with each row group or batch, which are 7 and at most 8,192 rows here."""
    texts = [f"t{number}" for number in range(20_000)]
    path = write(tmp_path / "a.parquet", {"text": pa.array(texts, type_)}, row_group_size=9_001)
    good, bad = read(path)
    assert good == [(number + 1, None, text) for number, text in enumerate(texts)]
    assert bad == []


def test_columns_keep_their_types_and_order(tmp_path: Path) -> None:
    columns = {
        "b": pa.array([1, None], pa.uint16()),
        "text": pa.array(["x", "y"]),
        "a": pa.array([datetime.datetime(2020, 1, 1), None], pa.timestamp("ms", tz="UTC")),
        "s": pa.array([None, "s"], pa.string()),
        "v": pa.array([[0.5], None], pa.large_list(pa.float32())),
        "d": pa.array([b"\xff", None], pa.binary()),
        "other": pa.array([{"deep": 1}, None]),
    }
    path = write(tmp_path / "a.parquet", columns)
    selection = selected(path, ("s", "a", "b", "v", "d"))
    assert [str(kind.type) for kind in selection.columns] == [
        "string",
        "timestamp[ms, tz=UTC]",
        "uint16",
        "large_list<item: float>",
        "binary",
    ]
    good, _ = read(path, selection)
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert good == [(1, None, "x", None, moment, 1, [0.5], b"\xff"), (2, None, "y", "s", None, None, None, None)]


@pytest.mark.parametrize(
    ("type_", "ids"), [(pa.string(), ["a", "b"]), (pa.int32(), ["-5", "7"]), (pa.uint64(), ["0", "9"])]
)
def test_ids_are_strings_or_integers(tmp_path: Path, type_: pa.DataType, ids: list[str]) -> None:
    values = ids if type_ == pa.string() else [int(one) for one in ids]
    path = write(tmp_path / "a.parquet", {"text": ["x", "y"], "key": pa.array(values, type_)})
    good, _ = read(path, selected(path, id="key"))
    assert [row[1] for row in good] == ids


def invalid(values: list[bytes | None]) -> pa.Array:
    """Strings that are not all UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_bad_rows_say_why_and_where(tmp_path: Path) -> None:
    columns = {
        "text": invalid([b"a", None, b"\xffx", b"d", b"e", b"f", b"g" * 100, b"h"]),
        "key": pa.array(["1", "2", "3", None, "", "6" * 5000, "7", "8"]),
        "note": invalid([b"n", b"", b"\xff", b"", b"", b"", b"", b"n\xff"]),  # of two reasons the first is told
    }
    path = write(tmp_path / "a.parquet", columns, row_group_size=3)
    chosen = selected(path, ("note",), id="key")
    good, bad = read(path, Selection("text", "key", chosen.schema, max_record_bytes=90))
    assert good == [(1, "1", "a", "n")]
    assert bad == [
        (2, "field 'text' is null, not a string"),
        (3, "field 'text' is not valid UTF-8 at byte 1"),
        (4, "no id in field 'key'"),
        (5, "id field 'key' is empty"),
        (6, "the id in field 'key' is longer than 4096 bytes"),
        (7, "longer than the limit of 90 bytes"),
        (8, "field 'note' is not valid UTF-8 at byte 2"),
    ]


def test_columns_that_do_not_suit_are_refused(tmp_path: Path) -> None:
    columns = {"text": ["x"], "title": ["t"], "n": [1], "f": [0.5], "deep": [{"a": 1}], "short": pa.array([[1]])}
    path = write(tmp_path / "a.parquet", columns)
    for options, message in [
        ({"text": "txt"}, r"no column 'txt' \(there is 'text'\)"),
        ({"text": "n"}, "the text column 'n' of .* is int64"),
        ({"id": "titel"}, r"no column 'titel' \(there is 'title'\)"),
        ({"id": "f"}, "the id column 'f' of .* is double"),
        ({"columns": ("Title",)}, r"no column 'Title' \(there is 'title'"),
        ({"columns": ("n:string",)}, "column 'n' of .* is int64, not string"),
        ({"columns": ("deep",)}, "column 'deep' has the type struct"),
        ({"columns": ("short",)}, "column 'short' has the type list"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            selected(path, **options)  # type: ignore[arg-type]


def test_all_files_have_the_types_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", {"text": ["x"], "n": [1], "s": ["s"]})
    second = write(tmp_path / "b.parquet", {"s": pa.array(["s"], pa.large_string()), "n": [1], "text": ["x"]})
    third = write(tmp_path / "c.parquet", {"text": ["x"], "n": pa.array([1], pa.int32())})
    selection = selected(first, ("n", "s"))
    with pytest.raises(InvalidInputError, match=r"'s' is string in .*a\.parquet and large_string in .*b\.parquet"):
        check_parquet(second, selection, [Column("n"), Column("s")], first)
    with pytest.raises(InvalidInputError, match=r"'n' is int64 in .*a\.parquet and int32 in .*c\.parquet"):
        check_parquet(third, selected(first, ("n",)), [Column("n")], first)
    check_parquet(second, selected(first, ("n",)), [Column("n")], first)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path)
    with pytest.raises(InvalidInputError, match="2 columns called 'text'"):
        selected(path)


def test_what_is_no_parquet_file_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", {"text": ["x" * 100] * 100}).read_bytes()
    for content in (b"", b"PAR1", b'{"text": "x"}\n' * 9, good[:-1], good[:-40], b"PAR1" + bytes(40) + b"PAR1"):
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"a\.parquet is not a readable Parquet file"):
            parquet_schema(path)
    with pytest.raises(NotFoundError, match=r"b\.parquet"):
        parquet_schema(tmp_path / "b.parquet")


def test_batches_shrink_when_rows_are_long(tmp_path: Path) -> None:
    """Memory follows bytes, not rows: 64 rows of 1 MB must not come as one batch."""
    path = write(
        tmp_path / "a.parquet", {"text": [f"{number:04}" * (1 << 18) for number in range(64)]}, use_dictionary=False
    )
    sizes = [rows.content.num_rows for rows in read_parquet(path, 0, PLAIN)]
    assert sum(sizes) == 64 and max(sizes) <= 8
