"""One task: some files are read, their rows cut into shards, and what cannot be taken is refused or listed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.errors import BadRecordError, UnavailableError
from pyfactory.shard.importers.jsonl import read_jsonl
from pyfactory.shard.importers.parquet import read_parquet
from pyfactory.shard.importers.rows import Bad, RowBuilder, Rows
from pyfactory.shard.importers.selection import Selection
from pyfactory.shard.importers.sources import Format, Task
from pyfactory.shard.importers.staging import ShardCutter, StagedShard
from pyfactory.shard.importers.streams import RawFile, refuse_changed
from pyfactory.shard.importers.text import read_document
from pyfactory.store.content import Objects

__all__ = ["MAX_BAD_LISTED", "Course", "FileReport", "Reading", "TaskResult", "read_listing"]

MAX_BAD_LISTED = 10_000
"""So many bad records are listed; all are counted."""

_DOCUMENTS_BYTES = 1 << 20


class Course:
    """What the tasks of one import share: how far they are, and whether to stop.

    Args:
        progress: Told about the bytes read.
        total: All bytes to read.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._failed: int | None = None

    def advanced(self, task: int, count: int) -> None:
        """Count bytes that a task has read; raises when the task is to stop."""
        if self._failed is not None and task > self._failed:
            raise UnavailableError("the import was stopped")
        if count:
            with self._lock:
                self._done += count
                self._progress("read", self._done, self._total)

    def stop_after(self, task: int) -> None:
        """Let all later tasks end at their next read.

        The earlier ones go on: an error of theirs is the one to report, however many workers there are.
        """
        with self._lock:
            self._failed = task if self._failed is None else min(task, self._failed)


@dataclass(slots=True)
class FileReport:
    """What was read from a file: its digest, the records taken and those skipped."""

    digest: Digest
    records: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task gives: its shards and a report per file, in order; where bad records are listed, if it met any."""

    shards: list[StagedShard]
    files: list[FileReport]
    bad: Path | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What all tasks of an import need; called with a task, it does it.

    Attributes:
        objects: Where content shards go.
        folder: For temporary files.
        selection: What is taken from each record.
        target_bytes: Content of a shard.
        skip: Whether bad records are skipped; otherwise the first one ends the import.
        key_of_content: See ShardCutter.
        course: What the tasks share.
    """

    objects: Objects
    folder: Path
    selection: Selection
    target_bytes: int
    skip: bool
    key_of_content: bool
    course: Course

    def __call__(self, task: Task) -> TaskResult:
        """Read the files of a task.

        Raises:
            BadRecordError: There is a bad record and `skip` is not set.
            PyfactoryError: A file cannot be read, or a shard cannot be written.
        """
        try:
            return self._read(task)
        except BaseException:
            self.course.stop_after(task.number)
            raise

    def _read(self, task: Task) -> TaskResult:
        with_ids = self.selection.id is not None
        cutter = ShardCutter(
            self.objects,
            self.folder,
            task.number,
            self.target_bytes,
            with_ids=with_ids,
            key_of_content=self.key_of_content,
        )
        listing = _BadListing(self.folder / f"task-{task.number:08d}.bad", task)
        digests: list[Digest] = []
        records = np.zeros(len(task.files), np.int64)
        for rows in self._rows(task, digests):
            if rows.bad and not self.skip:
                raise _refusal(task, rows.bad[0])
            listing.add(rows.bad)
            records += np.bincount(rows.file - task.first, minlength=len(task.files))
            cutter.add(rows)
        cutter.flush()
        counts = zip(digests, records.tolist(), listing.counts, strict=True)
        return TaskResult(cutter.staged, [FileReport(*count) for count in counts], listing.path)

    def _rows(self, task: Task, digests: list[Digest]) -> Iterator[Rows]:
        """Yield the rows of all files, in order; the digest of a file is added when it was read to its end."""
        advanced = partial(self.course.advanced, task.number)
        documents, held = RowBuilder(self.selection.schema), 0
        for number, source in enumerate(task.files, task.first):
            if held and (held >= _DOCUMENTS_BYTES or source.format is not Format.TEXT):
                yield documents.take()
                held = 0
            with RawFile(source, advanced) as raw:
                if source.format is Format.TEXT:
                    read_document(raw, number, self.selection, documents)
                    held += source.size + 1
                elif source.format is Format.JSONL:
                    yield from read_jsonl(raw, number, self.selection)
                else:
                    raw.finish()  # Arrow reads back and forth: the digest takes a pass of its own
                    yield from read_parquet(source.path, number, self.selection)
                digests.append(raw.finish())
        if held:
            yield documents.take()


def read_listing(path: Path, limit: int) -> list[dict[str, Any]]:
    """Return up to `limit` bad records that a task listed."""
    with translate_os_error(path), path.open("rb") as file:
        return [orjson.loads(line) for line in islice(file, limit)]


class _BadListing:
    """Bad records of a task: all counted by file, the first ones written to a file."""

    def __init__(self, path: Path, task: Task) -> None:
        self.counts = [0] * len(task.files)
        self.path: Path | None = None
        self._place = path
        self._task = task
        self._listed = 0

    def add(self, bad: Sequence[Bad]) -> None:
        """Count records, and list them while there is room."""
        for record in bad:
            self.counts[record.file - self._task.first] += 1
        listed = bad[: MAX_BAD_LISTED - self._listed]
        if not listed:
            return
        self._listed += len(listed)
        self.path = self._place
        with translate_os_error(self.path), self.path.open("ab") as file:
            file.writelines(orjson.dumps(self._value(record), option=orjson.OPT_APPEND_NEWLINE) for record in listed)

    def _value(self, record: Bad) -> dict[str, Any]:
        name = self._task.files[record.file - self._task.first].name
        return {"file": name, "line": record.line, "reason": record.reason}


def _refusal(task: Task, record: Bad) -> BadRecordError:
    source = task.files[record.file - task.first]
    refuse_changed(source)
    hint = "mend the file, or skip such records with --on-bad-record skip"
    return BadRecordError(f"{source.path}:{record.line}: {record.reason}", hint=hint)
