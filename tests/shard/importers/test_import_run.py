"""Whole imports: the same rows and ids from any format, with any number of workers, however the work is cut."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from import_tables import Row, json_lines, rows_of, sides_of, write_records

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest, digest_of, digest_of_file
from pyfactory.errors import BadRecordError, InvalidInputError, PyfactoryError, UnavailableError
from pyfactory.shard.importers import Imported, content_hashes, content_id, import_sources
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

NAMES = ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"]
RECORDS = [{"key": f"k{number}", "n": number % 3, "text": f"text {number % 4}\n" * number} for number in range(10)]


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def ids_of(rows: Sequence[Sequence[Any]], known: Iterable[str] = ()) -> list[str]:
    """The oracle of ids made from content: rows hold the values of all columns."""
    seen, ids = set(known), []
    for row in rows:
        columns = [pa.array([row[0]], pa.large_string()), *(pa.array([value]) for value in row[1:])]
        batch = pa.RecordBatch.from_arrays(columns, names=[f"c{number}" for number in range(len(columns))])
        octets = content_hashes(batch)
        ids.append(next(one for number in itertools.count() if (one := content_id(octets, number)) not in seen))
        seen.add(ids[-1])
    return ids


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_table(objects: Objects, raw: Path, name: str) -> None:
    path = write_records(raw / name, RECORDS)
    imported = import_sources(objects, [path], id="key", columns=["n:int64"])
    digest = digest_of_file(path)
    assert rows_of(objects, imported) == [
        (record["key"], record["text"], record["n"], digest, number)
        for number, record in enumerate(RECORDS, 1)
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
    assert [source["name"] for source in imported.sources] == ["raw/a.txt", "raw/b.txt", "raw/c.jsonl", "raw/d/e.md", "a.txt"]
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


@settings(max_examples=60)
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


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_error_is_the_one_of_the_first_file(raw: Path, workers: int) -> None:
    """However fast the later tasks fail: an error that depends on timing cannot be mended one by one."""
    write_records(raw / "a.jsonl", [*({"text": "x" * 1000} for _ in range(3000)), b"first"])
    for number in range(8):
        write_records(raw / f"b{number}.jsonl", [b"later"])
    with ThreadPoolExecutor(workers) as threads, pytest.raises(BadRecordError, match=r"a\.jsonl:3001: not valid JSON"):
        import_sources(Objects(MemoryStore()), [raw], target_bytes=1, map=threads.map)


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
    lines = json_lines({"text": random.Random(number).randbytes(50).hex()} for number in range(1000))
    for name, packed in (("a.jsonl.gz", gzip.compress(lines)), ("b.jsonl.zst", zstandard.compress(lines))):
        (raw / name).write_bytes(packed[: len(packed) // 2])
        with pytest.raises(InvalidInputError, match=rf"{name}:\d+: the \w+ stream is cut off") as caught:
            import_sources(objects, [raw / name], on_bad_record=how)
        line = int(caught.value.message.split(":")[1])
        assert 300 < line < 700


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
    with pytest.raises(InvalidInputError, match=r"'n' is int64 in .*b\.parquet and string in .*a\.jsonl \(write n:TYPE"):
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


def test_progress_counts_every_byte_and_shard(objects: Objects, raw: Path) -> None:
    for name in (*NAMES, "a.txt"):
        (write_records(raw / name, RECORDS) if name != "a.txt" else raw / name).open("ab").close()
    (raw / "a.txt").write_text("x")
    told: list[tuple[str, int, int | None]] = []
    imported = import_sources(objects, [raw], target_bytes=100, progress=lambda *one: told.append(one))
    total = sum(path.stat().st_size for path in raw.iterdir())
    assert [one for one in told if one[0] == "read"][-1] == ("read", total, total)
    assert told[-1] == ("index", len(imported.parts), len(imported.parts))
    assert [done for stage, done, _ in told if stage == "read"] == sorted(done for stage, done, _ in told if stage == "read")


def left_in(store: LocalStore) -> list[Path]:
    return [path for path in store.staging().rglob("*") if path.is_file()]


def test_nothing_temporary_is_left(tmp_path: Path, raw: Path) -> None:
    """After success, after a bad record, after a full disk and after Ctrl-C."""
    store = LocalStore(tmp_path / "store", create=True)
    write_records(raw / "a.jsonl", RECORDS)
    import_sources(Objects(store), [raw], target_bytes=10)
    assert left_in(store) == []
    write_records(raw / "b.jsonl", [{"text": ""}, b"nonsense"])
    with pytest.raises(BadRecordError):
        import_sources(Objects(store), [raw], target_bytes=10)
    assert left_in(store) == []

    def full(call: int, method: str, key: str) -> None:
        if method == "create" and call > 3:
            assert left_in(store)
            raise UnavailableError("no space left")

    with pytest.raises(UnavailableError, match="no space"):
        import_sources(Objects(Faulty(store, before=full)), [raw / "a.jsonl"], target_bytes=10)
    assert left_in(store) == []

    def interrupted(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        function(tasks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sources(Objects(store), [raw / "a.jsonl"], target_bytes=10, map=interrupted)
    assert left_in(store) == []


def test_tasks_that_still_run_stop_at_their_next_read(objects: Objects, raw: Path) -> None:
    """When the caller's map gives up, the threads that it leaves behind do not read for hours."""
    write_records(raw / "a.jsonl", RECORDS)
    kept: list[tuple[Callable[[Any], Any], Any]] = []

    def give_up(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        kept.append((function, tasks[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sources(objects, [raw], map=give_up)
    function, task = kept[0]
    with pytest.raises(UnavailableError, match="stopped"):
        function(task)


@settings(max_examples=150)
@given(
    st.sampled_from([*NAMES, "a.txt"]),
    st.binary(max_size=200),
    st.integers(0, 400),
    st.integers(0, 255),
    st.sampled_from(["stop", "skip"]),
)
def test_hostile_files_end_in_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, name: str, noise: bytes, at: int, flip: int, how: str
) -> None:
    """Noise alone, and noise written over a good file, in every format."""
    folder = tmp_path_factory.mktemp("raw")
    good = write_records(folder / name, RECORDS).read_bytes()
    at %= len(good)
    spoiled = bytearray(good)
    spoiled[at] ^= flip
    for content in (noise, bytes(spoiled), good[:at] + noise + good[at + len(noise) :], good[:at]):
        (folder / name).write_bytes(content)
        with suppress(PyfactoryError):
            objects = Objects(MemoryStore())
            rows_of(objects, import_sources(objects, [folder / name], on_bad_record=how))


def test_random_changes_of_parquet_end_in_an_error_of_ours(raw: Path) -> None:
    """Most of a Parquet file is structure, which random bytes seldom reach: every byte is changed in turn."""
    pq.write_table(pa.table({"text": ["a", "bc", None] * 5, "n": list(range(15))}), raw / "good.parquet")
    good = (raw / "good.parquet").read_bytes()
    rng = random.Random(5)
    for at in range(0, len(good), 3):
        spoiled = bytearray(good)
        spoiled[at] = rng.randrange(256)
        (raw / "a.parquet").write_bytes(spoiled)
        with suppress(PyfactoryError):
            import_sources(Objects(MemoryStore()), [raw / "a.parquet"], columns=["n"], on_bad_record="skip")


PEAK = """
import resource, sys
from pathlib import Path
from pyfactory.shard.importers import import_sources
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
imported = import_sources(Objects(LocalStore(sys.argv[1], create=True)), [Path(sys.argv[2])], **eval(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, imported.records, len(imported.parts))
"""


def peak_mb(store: Path, source: Path, **options: Any) -> tuple[int, int, int]:
    """Import in a process of its own; return its peak memory in MB, the records and the shards."""
    command = [sys.executable, "-c", PEAK, str(store), str(source), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    peak, records, shards = map(int, done.stdout.split())
    return peak, records, shards


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"id": "key"}], ids=["content", "field"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, raw: Path, options: dict[str, str]) -> None:
    line = '{"key": "%d", "text": "%s"}\n'
    with (raw / "a.jsonl").open("w") as file:
        file.writelines(line % (number, f"{number} " * 120) for number in range(400_000))
    assert (raw / "a.jsonl").stat().st_size > 300 << 20
    with (raw / "a.jsonl").open("rb") as file:
        (raw / "b.jsonl").write_bytes(b"".join(itertools.islice(file, 100_000)))
    small = peak_mb(tmp_path / "small", raw / "b.jsonl", target_bytes=16 << 20, **options)
    large = peak_mb(tmp_path / "large", raw / "a.jsonl", target_bytes=16 << 20, **options)
    assert large[1:] == (400_000, large[2]) and large[2] > 15
    assert small[0] < 400
    assert large[0] < small[0] + 60, (small, large)


@pytest.mark.slow
def test_a_document_of_200_mb_works_and_one_beyond_the_limit_is_skipped(tmp_path: Path, raw: Path) -> None:
    with (raw / "a.jsonl").open("wb") as file:
        for size in (200 << 20, 300 << 20, 5):
            file.write(b'{"text": "')
            for _ in range(size >> 20 or 1):
                file.write(b"x" * (1 << 20 if size >> 20 else size))
            file.write(b'"}\n')
    peak, records, shards = peak_mb(tmp_path / "store", raw / "a.jsonl", on_bad_record="skip")
    assert (records, shards) == (2, 2)
    assert peak < 2000


__all__ = ["Digest", "Imported", "digest_of", "os", "resource"]
