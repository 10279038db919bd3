"""Whole imports: the same rows and ids from any format, with any number of workers, however the work is cut."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_tables import NAMES, RECORDS, Row, rows_of, sides_of, write_records

from pyfactory.core.digest import digest_of_file
from pyfactory.shard.importers import content_hashes, content_id, import_sources
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


def ids_of(rows: Sequence[Sequence[Any]], known: Iterable[str] = ()) -> list[str]:
    """The oracle of ids made from content: rows hold the values of all columns."""
    seen, ids = set(known), []
    for row in rows:
        columns = [pa.array([row[0]], pa.large_string()), *(pa.array([value], pa.int64()) for value in row[1:])]
        octets = content_hashes(pa.RecordBatch.from_arrays(columns, names=["text", "n"][: len(row)]))
        ids.append(next(one for number in itertools.count() if (one := content_id(octets, number)) not in seen))
        seen.add(ids[-1])
    return ids


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_table(objects: Objects, raw: Path, name: str) -> None:
    path = write_records(raw / name, RECORDS)
    imported = import_sources(objects, [path], id="key", columns=["n:int64"])
    digest = digest_of_file(path)
    assert rows_of(objects, imported) == [
        (record["key"], record["text"], record["n"], digest, number) for number, record in enumerate(RECORDS, 1)
    ]
    reference = Objects(MemoryStore())
    first = import_sources(reference, [write_records(raw / "ref.jsonl", RECORDS)], id="key", columns=["n:int64"])
    assert [part.shard for part in imported.parts] == [part.shard for part in first.parts]
    assert imported.schema == first.schema
    assert imported.sources == [
        {"name": name, "digest": digest, "bytes": path.stat().st_size, "records": 10, "skipped": 0}
    ]


def test_equal_contents_are_numbered_in_table_order(objects: Objects, raw: Path) -> None:
    """Existing rows come first, then the files in order; formats do not matter."""
    paths = [write_records(raw / f"{number}-{name}", RECORDS[:3] * 2) for number, name in enumerate(NAMES)]
    first = import_sources(objects, paths[:2], target_bytes=20)
    second = import_sources(objects, paths[2:], target_bytes=30, existing=sides_of(objects, first))
    found = [row[:2] for row in [*rows_of(objects, first), *rows_of(objects, second)]]
    texts = [record["text"] for record in RECORDS[:3] * 2 * len(paths)]
    assert found == list(zip(ids_of([[text] for text in texts]), texts, strict=True))
    empty = "b3:af1349b9f5f9a1a6a0404dea36dcc949"  # BLAKE3 of nothing, as its authors publish it
    assert [one for one, text in found if not text] == [empty, *(f"{empty}.{number}" for number in range(1, 12))]


def test_documents_and_lines_mix(objects: Objects, raw: Path) -> None:
    """Catches documents that are collected past a file of another format."""
    for name in ("a.txt", "b.txt", "d/e.md"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_text(f"document {name}")
    write_records(raw / "c.jsonl", [{"text": "line", "path": "p"}])
    imported = import_sources(objects, [raw, raw / "a.txt"], columns=["path"])
    assert [row[1:3] for row in rows_of(objects, imported)] == [
        ("document a.txt", "a.txt"),
        ("document b.txt", "b.txt"),
        ("line", "p"),
        ("document d/e.md", "d/e.md"),
        ("document a.txt", "a.txt"),
    ]
    assert [source["name"] for source in imported.sources] == [
        "raw/a.txt",
        "raw/b.txt",
        "raw/c.jsonl",
        "raw/d/e.md",
        "a.txt",
    ]
    named = import_sources(objects, [raw], id="path", glob="*.txt")
    assert [row[:2] for row in rows_of(objects, named)] == [("a.txt", "document a.txt"), ("b.txt", "document b.txt")]


texts = st.sampled_from(["", "a", "b", "\u00e9" * 30, "line\nline", "x" * 200])
record_files = st.lists(
    st.tuples(
        st.sampled_from(["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "txt"]),
        st.lists(st.none() | st.tuples(texts, st.none() | st.integers(0, 2)), max_size=9),
    ),
    min_size=1,
    max_size=6,
)


def write_mixed(folder: Path, files: list[tuple[str, list[Any]]]) -> tuple[list[Row], list[tuple[str, int]]]:
    """Write files; return the expected rows (text, n, digest, line) and bad ones (file, line). None is a bad record."""
    rows: list[Row] = []
    bad: list[tuple[str, int]] = []
    for number, (suffix, records) in enumerate(files):
        path = folder / f"{number}.{suffix}"
        if suffix == "txt":
            records = records[:1] or [None]
            path.write_bytes(b"\xff" if records[0] is None else records[0][0].encode())
            records = [None if one is None or not one[0] else (one[0], None) for one in records]
        elif suffix == "parquet":
            values = [{"text": one and one[0], "n": one and one[1]} for one in records]
            write_records(path, values, pa.schema([("text", pa.string()), ("n", pa.int64())]))
        else:
            write_records(path, [[] if one is None else {"text": one[0], "n": one[1]} for one in records] or [b" "])
        for line, one in enumerate(records, 1):
            if one is None:
                bad.append((f"{folder.name}/{path.name}", line))
            else:
                rows.append((*one, digest_of_file(path), line))
    return rows, bad


@settings(max_examples=40, deadline=None)
@given(record_files, st.integers(1, 5), st.integers(1, 600), st.booleans())
def test_rows_and_ids_do_not_depend_on_workers_or_cuts(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, list[Any]]], workers: int, target: int, kept: bool
) -> None:
    """The promise of the importer, against an oracle that reads record by record."""
    if kept:  # a text document has no such field
        files = [(suffix.replace("txt", "jsonl"), records) for suffix, records in files]
    folder = tmp_path_factory.mktemp("raw")
    rows, bad = write_mixed(folder, files)
    columns = ["n:int64"] if kept else []
    width = 2 if kept else 1
    objects = Objects(MemoryStore())
    with ThreadPoolExecutor(workers) as threads:
        imported = import_sources(
            objects, [folder], columns=columns, on_bad_record="skip", target_bytes=target, map=threads.map
        )
    ids = ids_of([row[:width] for row in rows])
    assert rows_of(objects, imported) == [(id_, *row[:width], *row[2:]) for id_, row in zip(ids, rows, strict=True)]
    assert [(one["file"], one["line"]) for one in imported.bad] == bad
    assert imported.skipped == len(bad) == sum(source["skipped"] for source in imported.sources)
    assert imported.records == len(rows) == sum(source["records"] for source in imported.sources)
    alone = import_sources(Objects(MemoryStore()), [folder], columns=columns, on_bad_record="skip", target_bytes=target)
    assert alone == imported


def test_a_shard_holds_about_the_target(objects: Objects, raw: Path) -> None:
    records = [{"text": "x" * 100} for _ in range(1000)]
    imported = import_sources(objects, [write_records(raw / "a.jsonl", records)], target_bytes=10_000)
    assert [part.rows for part in imported.parts] == [100] * 10
    assert {part.tokens for part in imported.parts} == {0}


def test_small_files_share_a_shard(objects: Objects, raw: Path) -> None:
    for number in range(50):
        (raw / f"{number:02}.txt").write_text(str(number))
    imported = import_sources(objects, [raw])
    assert [part.rows for part in imported.parts] == [50]


def test_existing_sides_may_be_opened_when_needed(objects: Objects, raw: Path) -> None:
    path = write_records(raw / "a.jsonl", RECORDS)
    table = import_sources(objects, [path], target_bytes=50)
    sides = sides_of(objects, table)
    lazily: list[Callable[[], Any]] = [lambda side=side: side for side in sides]  # type: ignore[misc]
    again = import_sources(objects, [path], existing=lazily)
    assert again.parts == import_sources(objects, [path], existing=sides).parts
    assert {row[0] for row in rows_of(objects, again)}.isdisjoint(row[0] for row in rows_of(objects, table))


def test_nothing_to_take_gives_no_shards(objects: Objects, raw: Path) -> None:
    (raw / "a.jsonl").write_bytes(b"\n \n")
    (raw / "b.jsonl.gz").write_bytes(gzip.compress(b""))
    imported = import_sources(objects, [raw])
    assert (imported.parts, imported.records, imported.skipped) == ([], 0, 0)


def test_progress_counts_every_byte_and_shard(objects: Objects, raw: Path) -> None:
    for name in NAMES:
        write_records(raw / name, RECORDS)
    (raw / "a.txt").write_text("x")
    told: list[tuple[str, int, int | None]] = []
    imported = import_sources(objects, [raw], target_bytes=100, progress=lambda *one: told.append(one))
    total = sum(path.stat().st_size for path in raw.iterdir())
    assert [one for one in told if one[0] == "read"][-1] == ("read", total, total)
    assert told[-1] == ("index", len(imported.parts), len(imported.parts))
    assert [done for stage, done, _ in told if stage == "read"] == sorted(
        done for stage, done, _ in told if stage == "read"
    )
