"""What an import refuses: bad records by file and line, ids that occur twice, options and columns that do not suit."""

from __future__ import annotations

import gzip
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from import_tables import RECORDS, json_lines, rows_of, sides_of, write_records

from pyfactory.core.canonical import encode
from pyfactory.errors import BadRecordError, InvalidInputError
from pyfactory.shard.importers import import_sources
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


def test_the_first_bad_record_ends_the_import(objects: Objects, raw: Path) -> None:
    path = write_records(raw / "a.jsonl", [{"text": "x"}, b"", b"nonsense", [], {"text": "y"}])
    with pytest.raises(BadRecordError) as caught:
        import_sources(objects, [path])
    assert caught.value.message.startswith(f"{path}:3: not valid JSON")
    assert "skip" in caught.value.hint
    write_records(raw / "b.parquet", [{"text": "x"}, {"text": None}])
    with pytest.raises(BadRecordError, match=r"b\.parquet:2: field 'text' is null"):
        import_sources(objects, [raw / "b.parquet"])
    (raw / "c.txt").write_bytes(b"\xff")
    with pytest.raises(BadRecordError, match=r"c\.txt:1: not valid UTF-8 at byte 1"):
        import_sources(objects, [raw / "c.txt"])


def test_ids_that_stand_for_forgotten_records_are_bad(objects: Objects, raw: Path) -> None:
    """Catches a reader that takes them: such a row would pass for a forgotten one, and the proof would fail on it."""
    records = [{"text": "x", "key": "a"}, {"text": "y", "key": "forgotten:" + "0" * 32}, {"text": "z", "key": "b"}]
    for name in ("a.jsonl", "b.parquet"):
        path = write_records(raw / name, records)
        with pytest.raises(BadRecordError, match=rf"{name}:2: the id in field 'key' begins with 'forgotten:'"):
            import_sources(objects, [path], id="key")
        assert import_sources(objects, [path], id="key", on_bad_record="skip").records == 2
    document = raw / "forgotten:c.txt"
    document.write_bytes(b"text")
    with pytest.raises(BadRecordError, match=r"c\.txt:1: its path begins with 'forgotten:'"):
        import_sources(objects, [document], id="path")
    assert import_sources(objects, [document]).records == 1


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_error_is_the_one_of_the_first_file(raw: Path, workers: int) -> None:
    """However fast the later tasks fail: an error that depends on timing cannot be mended one by one."""
    write_records(raw / "a.jsonl", [*({"text": "x" * 1000} for _ in range(3000)), b"first"])
    # Larger than a piece that is read at once, so that the others have failed long before.
    for number in range(8):
        write_records(raw / f"b{number}.jsonl", [b"later"])
    with ThreadPoolExecutor(workers) as threads, pytest.raises(BadRecordError, match=r"a\.jsonl:3001: not valid JSON"):
        import_sources(Objects(MemoryStore()), [raw], target_bytes=5000, map=threads.map)


def test_skipped_records_are_listed_and_counted(objects: Objects, raw: Path) -> None:
    write_records(raw / "a.jsonl", [{"text": "x"}, b"nonsense", b"", {"text": 1}])
    write_records(raw / "b.jsonl", [{"text": "y"}])
    imported = import_sources(objects, [raw], on_bad_record="skip")
    assert [(one["file"], one["line"], one["reason"][:14]) for one in imported.bad] == [
        ("raw/a.jsonl", 2, "not valid JSON"),
        ("raw/a.jsonl", 4, "field 'text' i"),
    ]
    assert [(one["records"], one["skipped"]) for one in imported.sources] == [(1, 2), (1, 0)]
    encode([imported.bad, imported.sources, imported.options])  # they go into a commit


def test_the_listing_is_bounded_and_the_count_is_not(objects: Objects, raw: Path) -> None:
    for name in "ab":
        (raw / f"{name}.jsonl").write_bytes(b"x\n" * 7_000)
    imported = import_sources(objects, [raw], on_bad_record="skip", target_bytes=1)
    assert imported.skipped == 14_000
    assert len(imported.bad) == 10_000
    assert (imported.bad[6_999]["file"], imported.bad[6_999]["line"]) == ("raw/a.jsonl", 7_000)
    assert (imported.bad[7_000]["file"], imported.bad[7_000]["line"]) == ("raw/b.jsonl", 1)


@pytest.mark.parametrize("how", ["stop", "skip"])
def test_a_truncated_stream_always_ends_the_import(objects: Objects, raw: Path, how: str) -> None:
    lines = json_lines({"text": random.Random(number).randbytes(50).hex()} for number in range(10_000))
    for name, packed in (("a.jsonl.gz", gzip.compress(lines)), ("b.jsonl.zst", zstandard.compress(lines))):
        (raw / name).write_bytes(packed[: len(packed) // 2])
        with pytest.raises(InvalidInputError, match=rf"{name}:\d+: the \w+ stream is cut off") as caught:
            import_sources(objects, [raw / name], on_bad_record=how)
        line = int(caught.value.message.split(":")[1])
        assert 3500 < line < 6500  # zstd unpacks blocks of 128 kB


@pytest.mark.parametrize("how", ["stop", "skip"])
def test_duplicate_ids_are_refused_with_both_places(objects: Objects, raw: Path, how: str) -> None:
    first = write_records(raw / "a.jsonl", [{"key": "x", "text": ""}, {"key": 7, "text": ""}])
    second = write_records(raw / "b.parquet", [{"key": 6, "text": ""}, {"key": 7, "text": ""}])
    with pytest.raises(InvalidInputError, match="id '7' occurs twice") as caught:
        import_sources(objects, [first, second], id="key", on_bad_record=how)
    assert f"{first}:2 and {second}:2" in caught.value.message
    table = import_sources(objects, [first], id="key")
    with pytest.raises(InvalidInputError, match=rf"id '7' of {second}:2 is in the table already \(from line 2"):
        import_sources(objects, [second], id="key", on_bad_record=how, existing=sides_of(objects, table))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["text"]}, "is the text already"),
        ({"columns": ["n", "n:int64"]}, "named twice"),
        ({"columns": ["n:int32"]}, r"'n:int32' has no known type \(write NAME or NAME:string\|int64\|double\|bool\)"),
        ({"columns": [""]}, "has no name"),
        ({"columns": [":int64"]}, "has no name"),
        ({"columns": ["body"], "text": "body"}, "is the text already"),
        ({"text": ""}, "the option text is empty"),
        ({"id": ""}, "the option id is empty"),
        ({"on_bad_record": "ignore"}, "choose 'stop' or 'skip'"),
        ({"target_bytes": 0}, "target_bytes is 0"),
        ({"target_bytes": 1 << 31}, "target_bytes is 2147483648"),
    ],
)
def test_options_are_checked(objects: Objects, raw: Path, options: dict[str, Any], message: str) -> None:
    write_records(raw / "a.jsonl", RECORDS)
    with pytest.raises(InvalidInputError, match=message):
        import_sources(objects, [raw], **options)


def test_text_documents_have_a_path_and_nothing_else(objects: Objects, raw: Path) -> None:
    (raw / "a.txt").write_text("x")
    for options in ({"id": "key"}, {"columns": ["n"]}):
        with pytest.raises(InvalidInputError, match="read as a text document, which has no field"):
            import_sources(objects, [raw], **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="is a string, not int64"):
        import_sources(objects, [raw], columns=["path:int64"])


def test_lines_and_parquet_agree_on_types_or_are_refused(objects: Objects, raw: Path) -> None:
    write_records(raw / "a.jsonl", RECORDS)
    write_records(raw / "b.parquet", RECORDS)
    with pytest.raises(
        InvalidInputError, match=r"'n' is int64 in .*b\.parquet and string in .*a\.jsonl \(write n:TYPE"
    ):
        import_sources(objects, [raw], columns=["n"])
    both = import_sources(objects, [raw], columns=["n:int64", "key"])
    assert [row[2] for row in rows_of(objects, both)] == [record["n"] for record in RECORDS * 2]


def test_parquet_files_are_checked_before_anything_is_read(raw: Path) -> None:
    """Hours of reading must not end in a column that is missing from the last file."""
    write_records(raw / "a.jsonl", [b"nonsense"])
    write_records(raw / "b.parquet", [{"text": "x"}])
    write_records(raw / "c.parquet", [{"body": "x"}])
    with pytest.raises(InvalidInputError, match=r"c\.parquet has no column 'text'"):
        import_sources(Objects(MemoryStore()), [raw])
