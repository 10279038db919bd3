"""Why a record is not in a table: which filter of which job refused it, or which record dedup kept in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pyfactory.core.canonical import decode
from pyfactory.core.digest import parse_digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import CorruptError
from pyfactory.job.pieces import open_ids, open_text
from pyfactory.job.steps.filter import FilterParameters, failed_condition
from pyfactory.repo.fields import sound
from pyfactory.repo.makers import jobs_behind
from pyfactory.repo.record_index import rows_of_record
from pyfactory.repo.version import Version
from pyfactory.shard.reader import open_shard

__all__ = ["Dropped", "why_dropped"]

_NO_CHANGE = ("tokenize", "train_tokenizer", "shuffle")  # steps that pass on every row


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a record is not in a table that a job made.

    Attributes:
        record: The record.
        by: The step that dropped it: `filter` or `dedup`; "" if the job does not say.
        step: Number of that step in the job, from 0; -1 if the job does not say.
        detail: What decided it, for people.
        twin: The record of the same text that dedup kept, else "".
        table: The input of the job, where the record stands.
        commit: The commit that was read there.
        job: Digest of the job.
        output: The table that the job made.
    """

    record: str
    by: str
    step: int
    detail: str
    twin: str
    table: str
    commit: str
    job: str
    output: str


def why_dropped(version: Version, record_id: str, progress: Progress = no_progress) -> Dropped | None:
    """Return which job behind a table dropped a record, None if no table behind it has the record.

    Filters are asked again with the text of the record alone; the kept twin is found by one look at the lengths of all
    texts before it, and at those that are as long. The code of a filter function is not stored: what passes all else
    must have been refused by it.

    Args:
        version: The table, which the record is not in.
        record_id: The record.
        progress: Told of what is indexed (`index`) and compared (`compare`).

    Raises:
        CorruptError: The job or its input cannot be read.
    """
    for made_by, source in jobs_behind(version):
        rows = rows_of_record(source, record_id, progress)
        if rows:
            return _judged(version, made_by, source, record_id, rows[0], progress)
    return None


def _judged(
    version: Version,
    made_by: Mapping[str, Any],
    source: Version,
    record_id: str,
    row: tuple[int, int],
    progress: Progress,
) -> Dropped:
    home = version.repository
    what = f"job {made_by['job']} in {home.url}"
    with sound(what):
        job: Any = decode(home.objects.get(parse_digest(made_by["job"])), what)
        steps = [(name, value) for step in job["steps"] for name, value in step.items()]
    told = (source.table, source.commit, made_by["job"], made_by["output"])
    text = _text_at(source, row)
    functions: list[tuple[int, str]] = []
    for number, (name, value) in enumerate(steps):
        if name == "filter":
            parameters = _parameters(value, what)
            reason = failed_condition(parameters, text)
            if reason is not None:
                detail = f"{reason}: {getattr(parameters, reason)}"
                return Dropped(record_id, "filter", number, detail, "", *told)
            if parameters.function is not None:
                functions.append((number, parameters.function))
        elif name == "dedup":
            twin = _twin(source, row, text, progress)
            # A function before it may have refused both.
            if twin and (not functions or rows_of_record(version, twin, progress)):
                return Dropped(record_id, "dedup", number, f"the same text as record {twin!r}", twin, *told)
        elif name not in _NO_CHANGE:
            return Dropped(record_id, "", -1, f"step {name!r} is not known here", "", *told)
    if functions:
        number, function = functions[0]
        others = f", or {', '.join(other for _, other in functions[1:])}" if functions[1:] else ""
        return Dropped(record_id, "filter", number, f"function: {function}{others}", "", *told)
    return Dropped(record_id, "", -1, "the job drops no such record: the table was changed since", "", *told)


def _parameters(value: Mapping[str, Any], what: str) -> FilterParameters:
    try:
        return FilterParameters.model_validate({name: found for name, found in value.items() if name != "source"})
    except ValidationError as error:
        raise CorruptError(f"{what} has a filter that is none: {error.errors()[0]['msg']}") from error


def _text_at(source: Version, row: tuple[int, int]) -> str:
    part = source.manifest.part(row[0])
    text: str = open_text(source.repository.objects, part)[row[1]].as_py()
    return text


def _twin(source: Version, row: tuple[int, int], text: str, progress: Progress) -> str:
    """Return the id of the first record of a table with a text, "" if that is the row itself. O(rows before it)."""
    objects, wanted = source.repository.objects, text.encode()
    for shard, part in enumerate(source.parts()):
        if shard > row[0]:
            break
        what = f"shard {part.shard} in {objects.store.url}"
        column = open_shard(objects.map(part.shard), what).column(0)
        at = _first_equal(column, wanted)
        if at is not None and (shard, at) < row:
            return open_ids(objects, part).id(at)
        progress("compare", shard + 1, row[0] + 1)
    return ""


def _first_equal(column: pa.LargeStringArray, wanted: bytes) -> int | None:
    """Return the first row of that text, None if there is none; only texts that are as long are looked at."""
    if not len(column):
        return None
    _, starts, octets = column.buffers()
    bounds = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
    view = memoryview(octets or b"")
    for at in np.flatnonzero(np.diff(bounds) == len(wanted)).tolist():
        if view[bounds[at] : bounds[at + 1]] == wanted:
            return int(at)
    return None
