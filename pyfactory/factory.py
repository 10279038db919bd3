"""Where the parts meet: files become tables, jobs become commits, a version becomes a loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError
from pyfactory.job.executors.open import open_executor
from pyfactory.job.run import JobResult, run_job
from pyfactory.job.spec import load_job
from pyfactory.repo.names import check_table_name
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.importers import Imported, SideSource, import_sources
from pyfactory.shard.layout import schema_to_value
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.reader import Side, open_side

if TYPE_CHECKING:
    from pyfactory.loader.loader import DataLoader

__all__ = ["BuildReport", "ImportReport", "build", "import_files", "open_loader"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        commit: The commit that holds the records.
        records: Records taken.
        skipped: Bad records left out.
        bad: The first of them: file, line, reason.
        files: Raw files read.
        rows: Rows of the table now.
        nbytes: Bytes of the table now.
    """

    commit: str
    records: int
    skipped: int
    bad: list[dict[str, Any]]
    files: int
    rows: int
    nbytes: int

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        commit: The commit that holds the output table.
        created: False when the table was that already.
        table: Name of the output table.
        version: Its version digest.
        rows: Its rows.
        tokens: Its tokens.
        nbytes: Its bytes.
        input_table: Name of the input table.
        resolved: What its ref stood for.
        input_version: Its version digest.
        steps: What each step took and dropped.
        computed: Tasks computed.
        reused: Tasks found done.
    """

    commit: str
    created: bool
    table: str
    version: str
    rows: int
    tokens: int
    nbytes: int
    input_table: str
    resolved: str
    input_version: str
    steps: list[dict[str, Any]]
    computed: int
    reused: int

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def import_files(
    repo: Repository,
    table: str,
    sources: Sequence[str | Path],
    *,
    branch: str = "main",
    message: str = "",
    text: str = "text",
    id: str | None = None,
    columns: Sequence[str] = (),
    glob: str = "*",
    on_bad_record: str = "stop",
    author: str = "unknown",
    workers: int | None = None,
    progress: Progress = no_progress,
) -> ImportReport:
    """Add the records of raw files to a table and commit it.

    Args:
        repo: The repository.
        table: Name of the table, made if it is new.
        sources: JSONL (plain, .gz, .zst), Parquet or text files, or folders of them; a text file is one record.
        branch: Where to commit.
        message: Why, for the log.
        text: Field of the text.
        id: Field that names a record; None names it by its content.
        columns: More fields to keep, `name` or `name:type`.
        glob: Which files of a folder.
        on_bad_record: "stop" (nothing is committed) or "skip" (counted and listed).
        author: Who.
        workers: Files read at a time; default all cores.
        progress: Who listens.

    Raises:
        BadRecordError: A record cannot be taken; the message says file and line.
        InvalidInputError: A source or argument is wrong, or an id occurs twice.
        ConflictError: Somebody else committed to the branch meanwhile.
    """
    check_table_name(table)  # now, rather than after the work
    head = repo.head(branch)
    state = None if head == NO_DIGEST else repo.tables(head).get(table)
    old = None if state is None else Manifest(repo.objects, state.manifest)
    with open_executor(workers) as executor:
        imported = import_sources(
            repo.objects,
            [Path(source) for source in sources],
            text=text,
            id=id,
            columns=columns,
            glob=glob,
            on_bad_record=on_bad_record,
            existing=() if old is None else _sides(repo, old),
            map=partial(executor.map, stage="import"),
            progress=progress,
        )
    if not imported.parts:
        skipped = f": all {imported.skipped} records were skipped" if imported.skipped else ""
        raise InvalidInputError(f"there is nothing to import{skipped}", hint="name other sources")
    schema = _schema_value(imported.schema)
    if state is not None and state.schema != schema:
        raise InvalidInputError(
            f"table {table!r} has the columns {_columns(state.schema)} and the import {_columns(schema)}",
            hint="choose the same --columns, or another table",
        )
    made_by = _import_made_by(repo, table, imported)
    after = _appended(repo, old, imported.parts, schema)
    done = repo.commit(
        {table: after}, branch, message=message or f"import {table}", author=author, made_by=made_by, expected_head=head
    )
    return ImportReport(
        commit=done.digest,
        records=imported.records,
        skipped=imported.skipped,
        bad=list(imported.bad),
        files=len(imported.sources),
        rows=after.rows,
        nbytes=after.nbytes,
    )


def build(
    repo: Repository,
    job: str | Path,
    *,
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    workers: int | None = None,
    progress: Progress = no_progress,
) -> BuildReport:
    """Run a job and commit its output table, which replaces the one of that name.

    Args:
        repo: The repository.
        job: The job file.
        branch: Where the input is looked up, unless the job says `table@ref`, and where the output is committed.
        message: Why, for the log.
        author: Who.
        workers: Tasks at a time; decides how long it takes, never what comes out.
        progress: Who listens.

    Raises:
        InvalidInputError: The job is not valid (file:line), or its input does not suit it.
        NotFoundError: No such table, branch or file.
        ConflictError: Somebody else committed to the branch meanwhile; a rerun finds all tasks done.
    """
    spec = load_job(Path(job))
    check_table_name(spec.output)  # now, rather than after the work
    head = repo.head(branch)
    version = repo.version(spec.input_table, spec.input_ref or branch)
    with open_executor(workers) as executor:
        result = run_job(repo.objects, spec, version.manifest, executor, progress)
    state = _replaced(repo, result)
    done = repo.commit(
        {spec.output: state},
        branch,
        message=message or f"build {spec.output} from {spec.input_table}",
        author=author,
        made_by=_job_made_by(repo, spec.output, version, result),
        expected_head=head,
    )
    return BuildReport(
        commit=done.digest,
        created=done.created,
        table=spec.output,
        version=state.digest,
        rows=state.rows,
        tokens=state.tokens,
        nbytes=state.nbytes,
        input_table=version.table,
        resolved=version.ref,
        input_version=version.digest,
        steps=[report.value() for report in result.reports],
        computed=result.computed,
        reused=result.reused,
    )


def open_loader(training: str | Path, *, rank: int | None = None, world_size: int | None = None) -> DataLoader:
    """Return the loader that a training file describes; see configs/training.yaml.

    Raises:
        InvalidInputError: The file is not valid, or names a branch, which moves.
        NotFoundError: No such file, repository, table or version.
    """
    from pyfactory.config import load_recipe, load_training
    from pyfactory.loader.loader import DataLoader
    from pyfactory.stream.stream import Stream

    config = load_training(training)
    recipe = load_recipe(Path(training).parent / config.recipe)
    version = Repository.open(config.repository).version(config.table, config.version, strict=True)
    stream = Stream(
        version,
        seed=config.seed,
        sequence_length=recipe.sequence_length,
        block_size=recipe.block_size,
        window=recipe.window,
    )
    return DataLoader(
        stream,
        global_batch=config.global_batch,
        rank=rank,
        world_size=world_size,
        num_workers=config.num_workers,
        prefetch_factor=config.prefetch_factor,
        fields=config.fields,
    )


def _sides(repo: Repository, manifest: Manifest) -> list[SideSource]:
    """Return what opens the side shards of a table, one at a time."""

    def opener(part: Part) -> Side:
        return open_side(repo.objects.map(part.side), f"the side {part.side} in {repo.url}")

    return [partial(opener, part) for part in manifest.parts()]


def _columns(schema: Sequence[tuple[str, str, bool]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, _ in schema)


def _schema_value(schema: pa.Schema) -> tuple[tuple[str, str, bool], ...]:
    return tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(schema))


def _state(
    repo: Repository,
    root: Digest,
    schema: tuple[tuple[str, str, bool], ...],
    artifacts: Mapping[str, Digest],
    attributes: Mapping[str, int | str],
) -> TableState:
    manifest = Manifest(repo.objects, root)
    return TableState(
        manifest=root,
        schema=schema,
        rows=manifest.rows,
        tokens=manifest.tokens,
        nbytes=manifest.nbytes,
        shards=manifest.shards,
        artifacts=artifacts,
        attributes=attributes,
    )


def _appended(
    repo: Repository, old: Manifest | None, parts: Sequence[Part], schema: tuple[tuple[str, str, bool], ...]
) -> TableState:
    if old is None or not old.shards:
        root = write_manifest(repo.objects, new_batch(parts, 1))
    else:
        # One later than the last row's, so that what is appended never sorts before older rows.
        root = extend_manifest(repo.objects, old.root, new_batch(parts, old.last_generation + 1))
    return _state(repo, root, schema, {}, {})


def _replaced(repo: Repository, result: JobResult) -> TableState:
    root = write_manifest(repo.objects, new_batch(result.parts, 1))
    return _state(repo, root, _schema_value(result.schema), result.artifacts, result.attributes)


def _import_made_by(repo: Repository, table: str, imported: Imported) -> dict[str, Any]:
    listed = repo.objects.put(canonical.encode(list(imported.bad))) if imported.skipped else None
    return {
        "kind": "import",
        "table": table,
        "sources": repo.objects.put(canonical.encode(list(imported.sources))),
        "options": dict(imported.options),
        "records": imported.records,
        "skipped": imported.skipped,
        "skipped_list": listed,
        "code": code_versions("pyfactory", "pyarrow", "orjson"),
    }


def _job_made_by(repo: Repository, output: str, version: Version, result: JobResult) -> dict[str, Any]:
    used = {
        "table": version.table,
        "commit": version.commit,
        "version": version.digest,
        "asked": version.asked,
        "resolved": version.ref,
    }
    return {
        "kind": "job",
        "output": output,
        "job": result.job,
        "inputs": [used],
        "steps": [report.value() for report in result.reports],
        "code": dict(result.code),
    }
