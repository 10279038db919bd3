"""Raw files to shards: plan by names and sizes, read in tasks, settle the ids, write the sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.existing import SideSource
from pyfactory.shard.importers.indexing import Map, index_shards, temporary_folder
from pyfactory.shard.importers.jsonl import jsonl_fields
from pyfactory.shard.importers.parquet import check_parquet, parquet_schema
from pyfactory.shard.importers.reading import MAX_BAD_LISTED, Course, FileReport, Reading, read_listing
from pyfactory.shard.importers.selection import PATH, Column, Selection, parse_columns, select
from pyfactory.shard.importers.sources import Format, SourceFile, Task, expand, group
from pyfactory.shard.importers.staging import StagedShard
from pyfactory.shard.importers.streams import RawFile
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

__all__ = ["TARGET_BYTES", "Imported", "Map", "fields_of", "import_sources"]

TARGET_BYTES = 16 << 20
"""Content of a shard, and what small files share a task. No larger: jobs cut work by shard, and cores would idle."""

_MAX_TARGET_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Imported:
    """Raw files as shards, stored but in no table yet.

    Attributes:
        parts: The shards, in order.
        schema: Columns of the table.
        sources: A value per file, in order: name, digest, bytes, records, skipped.
        records: Rows of all shards.
        skipped: Bad records, all counted.
        bad: The first 10,000 of them: file, line (or row number, from 1), reason.
        options: What was asked for, as a canonical value.
    """

    parts: list[Part]
    schema: pa.Schema
    sources: list[dict[str, Any]]
    records: int
    skipped: int
    bad: list[dict[str, Any]]
    options: dict[str, Any]


def import_sources(
    objects: Objects,
    sources: Sequence[Path],
    *,
    text: str = "text",
    id: str | None = None,
    columns: Sequence[str] = (),
    glob: str = "*",
    on_bad_record: str = "stop",
    target_bytes: int = TARGET_BYTES,
    existing: Iterable[SideSource] = (),
    check: Callable[[pa.Schema], None] = lambda schema: None,
    map: Map = map,
    progress: Progress = no_progress,
) -> Imported:
    """Store the records of raw files as shards; which worker reads what changes nothing in the result.

    Memory is that of some batches and one shard per worker, and of some million keys; only files and shards add to it.

    Args:
        objects: Where the shards go.
        sources: Files or folders (see `sources.expand`). JSON lines (.jsonl, .ndjson, .json, also .gz or .zst) and
            Parquet (.parquet) are known by their names; any other file is one text document.
        text: Field that holds the text.
        id: Field that holds the record id, a string or an integer; None makes ids from the content (see `rows`, `ids`).
            Text documents have one field, `path`.
        columns: Other fields to keep, as `name` or `name:type` with type string, int64, double or bool. A value that is
            missing is null.
        glob: Which files of a folder to take, by their names.
        on_bad_record: "stop": the first record that cannot be taken ends the import. "skip": such are listed.
        target_bytes: Content of a shard, about; at most 1 GiB.
        existing: Side shards of the tables whose ids may not occur again.
        check: Called with the columns before a file is read; may raise.
        map: Runs the tasks; by default one after the other.
        progress: Told of the stages "read" (bytes) and "index" (shards).

    Raises:
        InvalidInputError: An option, a file or an id is wrong.
        BadRecordError: A record is wrong; the message says file, line and reason.
        NotFoundError: A source does not exist.
        UnavailableError: A file changes while it is read, or the machine fails.
    """
    options: dict[str, Any] = {"text": text, "id": id, "columns": list(columns), "glob": glob}
    options |= {"on_bad_record": on_bad_record, "target_bytes": target_bytes}
    _check_options(options, target_bytes)
    files = expand(sources, glob)
    tasks = group(files, target_bytes)
    selection = _selection(files, tasks, text, id, parse_columns(columns, text), map)
    check(selection.schema)
    known = list(existing)
    with temporary_folder(objects) as folder:
        course = Course(progress, sum(file.size for file in files))
        reading = Reading(objects, folder, selection, target_bytes, on_bad_record == "skip", bool(known), course)
        shards, reports, bad = _read(reading, tasks, map)
        digests = [report.digest for report in reports]
        parts = index_shards(objects, folder, shards, known, files, digests, id is not None, map, progress)
    listed = [file.listed(each.digest, each.records, each.skipped) for file, each in zip(files, reports, strict=True)]
    records, skipped = sum(report.records for report in reports), sum(report.skipped for report in reports)
    return Imported(parts, selection.schema, listed, records, skipped, bad, options)


def fields_of(sources: Sequence[Path], glob: str = "*") -> list[str]:
    """Return the fields of the first records of the first file: what a mistyped name may have meant."""
    file = expand(sources, glob)[0]
    match file.format:
        case Format.JSONL:
            with RawFile(file, lambda count: None) as raw:
                return jsonl_fields(raw)
        case Format.PARQUET:
            return list(parquet_schema(file.path).names)
    return [PATH]


def _check_options(options: dict[str, Any], target_bytes: int) -> None:
    for name in ("text", "id", "glob"):
        if options[name] == "":
            raise InvalidInputError(f"the option {name} is empty", hint="give it a value or leave it out")
    if options["on_bad_record"] not in ("stop", "skip"):
        raise InvalidInputError(f"on_bad_record is {options['on_bad_record']!r}", hint="choose 'stop' or 'skip'")
    if not 1 <= target_bytes <= _MAX_TARGET_BYTES:
        raise InvalidInputError(f"target_bytes is {target_bytes}", hint=f"choose 1 to {_MAX_TARGET_BYTES}")


def _read(
    reading: Reading, tasks: Sequence[Task], map: Map
) -> tuple[list[StagedShard], list[FileReport], list[dict[str, Any]]]:
    """Return the shards of all tasks, a report per file, and the bad records that are listed."""
    try:
        results = list(map(reading, tasks))
    except BaseException:
        reading.course.stop_after(-1)  # whatever a map leaves running ends at its next read
        raise
    bad: list[dict[str, Any]] = []
    for listing in [result.bad for result in results if result.bad is not None]:
        if len(bad) < MAX_BAD_LISTED:
            bad += read_listing(listing, MAX_BAD_LISTED - len(bad))
    reports = [report for result in results for report in result.files]
    return [shard for result in results for shard in result.shards], reports, bad


def _selection(
    files: Sequence[SourceFile], tasks: Sequence[Task], text: str, id: str | None, columns: list[Column], map: Map
) -> Selection:
    """Settle the schema, and see that all Parquet files have it before any file is read."""
    first = next((file.path for file in files if file.format is Format.PARQUET), None)
    schema = None if first is None else parquet_schema(first)
    selection = select(files, text=text, id=id, columns=columns, first_parquet=schema)
    if first is not None:

        def check(task: Task) -> None:
            for file in task.files:
                if file.format is Format.PARQUET:
                    check_parquet(file.path, selection, columns, first)

        for _ in map(check, tasks):
            pass
    return selection
