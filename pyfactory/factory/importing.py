"""Raw files -> a commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError
from pyfactory.factory.destination import Destination
from pyfactory.factory.earlier import Listed, earlier_import, same_files
from pyfactory.factory.tables import schema_value
from pyfactory.job.executors.open import open_executor
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers import TARGET_BYTES, Imported, import_sources
from pyfactory.shard.importers.run import fields_of
from pyfactory.shard.importers.selection import near
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.reader import open_shard

__all__ = ["ImportReport", "add_imported", "import_files", "report_earlier"]

_NOTHING: Mapping[str, Any] = {}


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
    into = Destination.find(repo, table, branch, message=message, author=author, signer=signer)
    options: dict[str, Any] = {"text": text, "id": id, "columns": list(columns), "glob": glob}
    options |= {"on_bad_record": on_bad_record, "target_bytes": TARGET_BYTES}
    paths = [Path(source) for source in sources]
    files = expand(paths, glob) if into.state is not None else []
    if (earlier := report_earlier(into, options, partial(same_files, files), len(files))) is not None:
        return earlier
    with into.writing(progress) as telling:
        reading: dict[str, Any] = {"existing": into.sides(), "check": into.check_columns, "progress": telling}
        with open_executor(workers) as executor:
            run = partial(executor.map, stage="import")
            imported = import_sources(repo.objects, paths, **options, **reading, map=run)
        return add_imported(into, imported, len(imported.sources), fields=partial(fields_of, paths, glob))


def report_earlier(
    into: Destination, options: Mapping[str, Any], same: Callable[[Listed], bool], files: int = 0
) -> ImportReport | None:
    """Return what to say of an earlier import of the same sources, None if there is none; see `earlier_import`."""
    found = earlier_import(into, options, same)
    if found is None:
        return None
    commit, state = found
    made_by = commit.made_by or {}
    return ImportReport(
        commit.digest, False, made_by["records"], made_by["skipped"], [], files, state.rows, state.nbytes
    )


def add_imported(
    into: Destination,
    imported: Imported,
    files: int = 0,
    said: Mapping[str, Any] = _NOTHING,
    fields: Callable[[], Sequence[str]] | None = None,
) -> ImportReport:
    """Commit what was imported; `said` is what else the commit says of it, `fields` what records had, None for all."""
    _check_records(into.repo, imported, fields or (lambda: imported.schema.names))
    into.refuse_forgotten(imported.parts)
    made_by = {**_made_by(into, imported), **said}
    done, state = into.add(imported.parts, schema_value(imported.schema), made_by)
    return ImportReport(
        commit=done.digest,
        created=done.created,
        records=imported.records,
        skipped=imported.skipped,
        bad=imported.bad,
        files=files,
        rows=state.rows,
        nbytes=state.nbytes,
    )


def _check_records(repo: Repository, imported: Imported, fields: Callable[[], Sequence[str]]) -> None:
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
        name, known = min(empty), fields()
        if name in known:
            raise InvalidInputError(f"the field {name!r} is null in every record", hint="leave it out of --columns")
        message = f"no record has the field {name!r}: {near(name, known)}"
        raise InvalidInputError(message, hint="check the names in --columns")


def _made_by(into: Destination, imported: Imported) -> dict[str, Any]:
    """Return what a commit says of the import that made it, having stored what that names."""
    objects = into.repo.objects
    listed = objects.put(canonical.encode(list(imported.bad))) if imported.skipped else None
    return {
        "kind": "import",
        "table": into.table,
        "sources": objects.put(canonical.encode(list(imported.sources))),
        "options": dict(imported.options),
        "records": imported.records,
        "skipped": imported.skipped,
        "skipped_list": listed,
        "code": code_versions("pyfactory", "pyarrow", "orjson"),
    }
