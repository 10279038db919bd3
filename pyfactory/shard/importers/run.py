"""Raw files to shards: plan by names and sizes, read in tasks, settle the ids, write the sides."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.existing import Existing, SideSource
from pyfactory.shard.importers.ids import IdResolver, partitions_for
from pyfactory.shard.importers.parquet import check_parquet, parquet_schema
from pyfactory.shard.importers.reading import MAX_BAD_LISTED, Course, FileReport, Reading, TaskResult, read_listing
from pyfactory.shard.importers.selection import Column, Selection, parse_columns, select
from pyfactory.shard.importers.sides import write_side
from pyfactory.shard.importers.sources import Format, SourceFile, Task, expand, group
from pyfactory.shard.importers.staging import StagedShard
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

__all__ = ["TARGET_BYTES", "Imported", "Map", "import_sources"]

TARGET_BYTES = 16 << 20
"""Content of a shard, and what small files share a task. No larger: jobs cut work by shard, and cores would idle."""

_MAX_TARGET_BYTES = 1 << 30

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Map(Protocol):
    """Calls a function with each task, maybe in threads of this process; outcomes come in the order of the tasks."""

    def __call__(self, function: Callable[[Item], Outcome], tasks: Sequence[Item], /) -> Iterable[Outcome]:
        """Return the outcomes, or raise the error of the first task that failed."""


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
    with _temporary_folder(objects) as folder:
        course = Course(progress, sum(file.size for file in files))
        reading = Reading(objects, folder, selection, target_bytes, on_bad_record == "skip", bool(known), course)
        results = _read(reading, tasks, map)
        reports = [report for result in results for report in result.files]
        shards = [shard for result in results for shard in result.shards]
        parts = _index(objects, folder, shards, known, files, reports, id is not None, map, progress)
        bad = _listed(results)
    records, skipped = sum(report.records for report in reports), sum(report.skipped for report in reports)
    return Imported(parts, selection.schema, _source_values(files, reports), records, skipped, bad, options)


def _check_options(options: dict[str, Any], target_bytes: int) -> None:
    for name in ("text", "id", "glob"):
        if options[name] == "":
            raise InvalidInputError(f"the option {name} is empty", hint="give it a value or leave it out")
    if options["on_bad_record"] not in ("stop", "skip"):
        raise InvalidInputError(f"on_bad_record is {options['on_bad_record']!r}", hint="choose 'stop' or 'skip'")
    if not 1 <= target_bytes <= _MAX_TARGET_BYTES:
        raise InvalidInputError(f"target_bytes is {target_bytes}", hint=f"choose 1 to {_MAX_TARGET_BYTES}")


def _read(reading: Reading, tasks: Sequence[Task], map: Map) -> list[TaskResult]:
    try:
        return list(map(reading, tasks))
    except BaseException:
        reading.course.stop_after(-1)  # whatever a map leaves running ends at its next read
        raise


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


@contextmanager
def _temporary_folder(objects: Objects) -> Iterator[Path]:
    staging = objects.store.staging()
    with translate_os_error(staging):
        folder = Path(tempfile.mkdtemp(prefix="import-", dir=staging))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _index(
    objects: Objects,
    folder: Path,
    shards: Sequence[StagedShard],
    known: Sequence[SideSource],
    files: Sequence[SourceFile],
    reports: Sequence[FileReport],
    with_ids: bool,
    map: Map,
    progress: Progress,
) -> list[Part]:
    """Settle the ids and write the side of every shard."""
    partitions = partitions_for(sum(shard.rows for shard in shards))
    resolver = IdResolver(shards, Existing(known, partitions, folder), partitions)
    numbers: NDArray[np.uint32] | None = None
    if with_ids:
        resolver.refuse_duplicates(files)
    else:
        numbers = resolver.occurrence_numbers(folder / "numbers")
    digests = [report.digest for report in reports]

    def index(at: int) -> Part:
        start, stop = resolver.starts[at : at + 2].tolist()
        return write_side(objects, shards[at], digests, None if numbers is None else numbers[start:stop])

    parts = []
    for part in map(index, range(len(shards))):
        parts.append(part)
        progress("index", len(parts), len(shards))
    return parts


def _listed(results: Sequence[TaskResult]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for result in results:
        if result.bad is not None and len(listed) < MAX_BAD_LISTED:
            listed += read_listing(result.bad, MAX_BAD_LISTED - len(listed))
    return listed


def _source_values(files: Sequence[SourceFile], reports: Sequence[FileReport]) -> list[dict[str, Any]]:
    return [
        {
            "name": file.name,
            "digest": report.digest,
            "bytes": file.size,
            "records": report.records,
            "skipped": report.skipped,
        }
        for file, report in zip(files, reports, strict=True)
    ]
