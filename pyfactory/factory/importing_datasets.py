"""Datasets of the library `datasets` -> a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.factory.earlier import Listed, earlier_import, sides_of
from pyfactory.factory.importing import ImportReport, check_columns, check_records, describe_import
from pyfactory.factory.tables import appended, publish, schema_value
from pyfactory.repo.forgotten import refuse_forgotten
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.objects import Commit, TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers.hugging_face import import_rows, read_facts
from pyfactory.shard.manifest import Manifest

__all__ = ["import_dataset"]


def import_dataset(
    repo: Repository,
    table: str,
    dataset: Any,
    *,
    text: str = "text",
    id: str | None = None,
    columns: Sequence[str] = (),
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
    progress: Progress = no_progress,
) -> ImportReport:
    """Add the rows of a dataset of the library `datasets` to a table and commit it.

    The same rows give the same shards as from a file of JSON lines. Rows that an earlier import of this table took,
    with these options, are not added again.

    Args:
        repo: The repository.
        table: Name of the table, made if it is new.
        dataset: A `datasets.Dataset`, read as Arrow, or an `IterableDataset`, read in batches. Formats and transforms
            that were set on it are left out.
        text: Column of the text.
        id: Column that names a record; None names it by its content.
        columns: More columns to keep, `name` or `name:type`.
        branch: Where to commit.
        message: Why, for the log.
        author: Who.
        signer: Signs the commit; needed where the rule of the branch asks for it.
        progress: Who listens.

    Returns:
        What was added; `files` is 0. The records have no origin; the commit names dataset, split and fingerprint.

    Raises:
        InvalidInputError: It is no dataset or has several splits; a column is missing or wrong; an id is taken.
        BadRecordError: A row has no text; the message has its number.
        UnavailableError: The dataset cannot be read.
        RefusedError: A rule of the branch forbids it.
        ConflictError: Somebody else changed the table meanwhile.
        RefusedError: A record was forgotten and must not come back.
    """
    check_table_name(table)  # now, rather than after the work
    check_text(message, "message")
    repo.check_takes_commits(branch, author=author, signer=signer)
    facts = read_facts(dataset)
    head = repo.head(branch)
    state = None if head == NO_DIGEST else repo.tables(head).get(table)
    old = None if state is None else Manifest(repo.objects, state.manifest)
    found: list[tuple[Commit, TableState]] = []

    def known(content: Digest) -> bool:
        options = {"format": "datasets", "text": text, "id": id, "columns": list(columns)}
        if state is not None and (commit := earlier_import(repo, head, table, options, partial(_same, content))):
            found.append((commit, state))
        return bool(found)

    with writing(repo, f"import of {table} by {author}", progress) as telling:
        imported = import_rows(
            repo.objects,
            dataset,
            text=text,
            id=id,
            columns=columns,
            existing=() if old is None else sides_of(repo, old),
            check=partial(check_columns, table, state),
            known=known,
            progress=telling,
        )
        if imported is None:
            ((commit, held),) = found
            records = (commit.made_by or {})["records"]
            return ImportReport(commit.digest, False, records, 0, [], 0, held.rows, held.nbytes)
        check_records(repo, imported)
        refuse_forgotten(repo, imported.parts, author, f"import to {table} on {branch}")
        made_by = describe_import(repo, table, imported) | {"dataset": asdict(facts)}
        made_by["code"] = code_versions("pyfactory", "pyarrow", "datasets")
        after = appended(repo, old, imported.parts, schema_value(imported.schema))
        told = {"message": message or f"import {table}", "author": author, "signer": signer, "made_by": made_by}
        done = publish(repo, table, state, after, head, branch, **told)
    now = repo.tables(done.digest)[table]  # which others may have appended to as well
    return ImportReport(done.digest, done.created, imported.records, 0, [], 0, now.rows, now.nbytes)


def _same(content: Digest, listed: Listed) -> bool:
    return [source["digest"] for source in listed] == [content]
