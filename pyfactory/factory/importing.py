"""Raw files -> a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError
from pyfactory.factory.earlier import earlier_import, same_files, sides_of
from pyfactory.factory.tables import appended, publish, schema_value
from pyfactory.job.executors.open import open_executor
from pyfactory.repo.forgotten import refuse_forgotten
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers import TARGET_BYTES, Imported, import_sources
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.manifest import Manifest
from pyfactory.shard.reader import open_shard

__all__ = ["ImportReport", "check_columns", "check_records", "describe_import", "import_files"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        commit: The commit that holds the records.
        created: False when an earlier import took exactly these files: nothing was added.
        records: Records taken.
        skipped: Bad records left out.
        bad: The first of them: file, line, reason.
        files: Raw files read.
        rows: Rows of the table now.
        nbytes: Bytes of the table now.
    """

    commit: str
    created: bool
    records: int
    skipped: int
    bad: list[dict[str, Any]]
    files: int
    rows: int
    nbytes: int

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
    signer: Signer | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> ImportReport:
    """Add the records of raw files to a table and commit it.

    Importing what an earlier import of this table took (same names, bytes and options) adds nothing, so that an import
    may be run again whatever became of it.

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
        signer: Signs the commit; needed where the rule of the branch asks for it.
        workers: Files read at a time; default all cores.
        progress: Who listens.

    Raises:
        BadRecordError: A record cannot be taken; the message says file and line.
        InvalidInputError: A source, argument or id is wrong.
        RefusedError: A rule of the branch forbids it.
        ConflictError: Somebody else changed the table meanwhile.
    """
    check_table_name(table)  # now, rather than after the work
    check_text(message, "message")
    repo.check_takes_commits(branch, author=author, signer=signer)
    options: dict[str, Any] = {"text": text, "id": id, "columns": list(columns), "glob": glob}
    options |= {"on_bad_record": on_bad_record, "target_bytes": TARGET_BYTES}
    paths, head = [Path(source) for source in sources], repo.head(branch)
    state = None if head == NO_DIGEST else repo.tables(head).get(table)
    if state is not None:
        files = expand(paths, glob)
        if (earlier := earlier_import(repo, head, table, options, partial(same_files, files))) is not None:
            return _report(earlier.digest, False, state, earlier.made_by or {}, len(files), [])
    old = None if state is None else Manifest(repo.objects, state.manifest)
    with writing(repo, f"import of {table} by {author}", progress) as telling:
        reading = {"check": partial(check_columns, table, state), "progress": telling}
        imported = _read(repo, paths, options | reading, old, workers)
        check_records(repo, imported)
        refuse_forgotten(repo, imported.parts, author, f"import to {table} on {branch}")
        made_by = describe_import(repo, table, imported)
        after = appended(repo, old, imported.parts, schema_value(imported.schema))
        told = {"message": message or f"import {table}", "author": author, "signer": signer, "made_by": made_by}
        done = publish(repo, table, state, after, head, branch, **told)
    return _report(
        done.digest, done.created, repo.tables(done.digest)[table], made_by, len(imported.sources), imported.bad
    )


def _read(
    repo: Repository, paths: Sequence[Path], options: Mapping[str, Any], old: Manifest | None, workers: int | None
) -> Imported:
    with open_executor(workers) as executor:
        return import_sources(
            repo.objects,
            paths,
            **options,
            existing=() if old is None else sides_of(repo, old),
            map=partial(executor.map, stage="import"),
        )


def _report(
    commit: Digest, created: bool, state: TableState, made_by: Mapping[str, Any], files: int, bad: list[dict[str, Any]]
) -> ImportReport:
    return ImportReport(
        commit=commit,
        created=created,
        records=made_by["records"],
        skipped=made_by["skipped"],
        bad=bad,
        files=files,
        rows=state.rows,
        nbytes=state.nbytes,
    )


def check_columns(table: str, state: TableState | None, schema: pa.Schema) -> None:
    """Raise InvalidInputError if a table that is there has other columns than an import."""
    value = schema_value(schema)
    if state is not None and state.schema != value:
        raise InvalidInputError(
            f"table {table!r} has the columns {_columns(state.schema)} and the import {_columns(value)}",
            hint="choose the same --columns, or another table",
        )


def check_records(repo: Repository, imported: Imported) -> None:
    """Refuse an import of nothing, and a kept column that no record has: it is a field name that was misspelt."""
    if not imported.parts:
        skipped = f": all {imported.skipped} records were skipped" if imported.skipped else ""
        raise InvalidInputError(f"there is nothing to import{skipped}", hint="name other sources")
    empty = set(imported.schema.names[1:])
    for part in imported.parts:
        if not empty:
            return
        batch = open_shard(repo.objects.map(part.shard), f"shard {part.shard}")
        empty -= {name for name in empty if batch.column(name).null_count < batch.num_rows}
    if empty:
        raise InvalidInputError(f"no record has the field {min(empty)!r}", hint="check the names in --columns")


def _columns(schema: Sequence[tuple[str, str, bool]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, _ in schema)


def describe_import(repo: Repository, table: str, imported: Imported) -> dict[str, Any]:
    """Return what a commit says of the import that made it, having stored what that names."""
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
