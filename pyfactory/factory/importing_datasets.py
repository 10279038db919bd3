"""Datasets of the library `datasets` -> a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.factory.destination import Destination
from pyfactory.factory.earlier import Listed
from pyfactory.factory.importing import ImportReport, add_imported, report_earlier
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers.hugging_face import import_rows, read_facts

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
        RefusedError: A rule of the branch forbids it, or a record was forgotten and must not come back.
        ConflictError: Somebody else changed the table meanwhile.
    """
    into = Destination.find(repo, table, branch, message=message, author=author, signer=signer)
    said = {"dataset": asdict(read_facts(dataset)), "code": code_versions("pyfactory", "pyarrow", "datasets")}
    options: dict[str, Any] = {"text": text, "id": id, "columns": list(columns)}
    earlier: list[ImportReport] = []

    def known(content: Digest) -> bool:
        report = report_earlier(into, {"format": "datasets", **options}, partial(_same, content))
        if report is not None:
            earlier.append(report)
        return bool(earlier)

    with into.writing(progress) as telling:
        reading: dict[str, Any] = {"check": into.check_columns, "known": known, "progress": telling}
        imported = import_rows(repo.objects, dataset, existing=into.sides(), **options, **reading)
        return earlier[0] if imported is None else add_imported(into, imported, said=said)


def _same(content: Digest, listed: Listed) -> bool:
    return [source["digest"] for source in listed] == [content]
