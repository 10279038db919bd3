"""Runs a job: step after step, each on what the one before has left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pyfactory.core import canonical
from pyfactory.core.canonical import Value
from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError
from pyfactory.job.executors.base import Executor
from pyfactory.job.pieces import as_redacted, open_content, whole_pieces
from pyfactory.job.spec import JobSpec
from pyfactory.job.steps.base import Bench, FieldError, Report, State
from pyfactory.shard.layout import raw_schema, token_width
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.store.content import Objects

__all__ = ["JobResult", "run_job"]

_LIBRARIES = ("pyfactory", "gigatoken", "numpy", "pyarrow", "tokenizers")


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job has made; all of it is stored, nothing is committed.

    Attributes:
        parts: Parts of the new table, in order.
        schema: Its columns.
        artifacts: Objects that belong to it: the tokenizer, if there is one.
        attributes: Of a token table: width (bytes), append (id of the token that ends documents, or -1), vocab_size.
        reports: What each step did.
        job: Digest of the canonical value of the job, which is stored as an object.
        value: That value.
        code: Versions of what took part.
        reused: Number of tasks that had been done before.
        computed: Number of tasks that were done.
    """

    parts: list[Part]
    schema: pa.Schema
    artifacts: Mapping[str, Digest]
    attributes: Mapping[str, int]
    reports: list[Report]
    job: Digest
    value: Value
    code: Mapping[str, str]
    reused: int
    computed: int


def run_job(
    objects: Objects, spec: JobSpec, source: Manifest, executor: Executor, progress: Progress = no_progress
) -> JobResult:
    """Run a job over a table. Killed at any moment and run again, it goes on where it was.

    Args:
        objects: Where parts are read and written.
        spec: The job.
        source: Manifest of the input table, a raw table.
        executor: Where tasks run; it has no part in the outcome.
        progress: Told after each task.

    Raises:
        InvalidInputError: The input is a token table, or a step cannot take a record.
        PyfactoryError: Whatever reading and writing may raise.
    """
    bench = Bench(objects, executor, progress)
    pieces = whole_pieces(as_redacted(objects, source.parts()))
    schema = open_content(objects, pieces[0].part).schema if pieces else raw_schema()
    if token_width(schema) is not None:
        raise InvalidInputError(
            f"{spec.path}: the input {spec.input} holds tokens, and a job starts from text",
            hint="name a raw table as input",
        )
    state = State(pieces, schema)
    reports: list[Report] = []
    for step in spec.plan.steps:
        try:
            state, report = step.run(bench, state)
        except FieldError as error:
            what = f"{spec.path}: {step.name}.{error.name}: {error.message}"
            raise InvalidInputError(what, hint=error.hint) from error
        reports.append(report)
    return JobResult(
        parts=[piece.part for piece in state.pieces],
        schema=state.schema,
        artifacts={} if state.tokenizer is None else {"tokenizer": state.tokenizer},
        attributes=state.attributes,
        reports=reports,
        job=objects.put(canonical.encode(spec.value())),
        value=spec.value(),
        code=code_versions(*_LIBRARIES),
        reused=bench.reused,
        computed=bench.computed,
    )
