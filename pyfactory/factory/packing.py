"""A table -> a commit that gives it a packing table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError
from pyfactory.job.executors.base import Executor
from pyfactory.job.executors.open import open_executor
from pyfactory.job.packing import Packed, check_packing, pack_table
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text, suggestion
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import CommitResult, Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.manifest import Manifest
from pyfactory.shard.packing_format import PackingIndex, artifact_name
from pyfactory.shard.packing_table import PackingReport, load_range, report_of
from pyfactory.store.content import Objects

__all__ = ["PackReport", "pack", "with_packing"]

_TRIES = 20


@dataclass(frozen=True, slots=True)
class PackReport:
    """What packing did.

    Attributes:
        commit: The commit that holds the table with its packing.
        created: False when the table had this packing already.
        table: Name of the table.
        version: Its version digest.
        packing: Digest of the packing table.
        ranges_computed: Ranges of rows that were packed.
        ranges_reused: Ranges that had been packed before.
        report: What the packing does to the table.
        truncated_documents: Documents of which no sample reads the end (`documents` only).
    """

    commit: str
    created: bool
    table: str
    version: str
    packing: str
    ranges_computed: int
    ranges_reused: int
    report: PackingReport
    truncated_documents: int

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def pack(
    repo: Repository,
    table: str,
    *,
    sequence_length: int,
    packing: str = "best_fit",
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> PackReport:
    """Make the packing table of a token table and commit it with the table, whose rows stay as they are.

    After rows were appended, the ranges before them are found again and only the tail is packed.

    Args:
        repo: The repository.
        table: The table.
        sequence_length: Inputs of a sample, 1 to 2^24.
        packing: `best_fit`, `padded` or `documents`; `concat` needs no table.
        branch: Where the table is looked up and committed.
        message: Why, for the log.
        author: Who.
        signer: Signs the commit; needed where the rule of the branch asks for it.
        workers: Ranges at a time; decides how long it takes, never what comes out.
        progress: Who listens.

    Raises:
        InvalidInputError: There is no such packing, or the table holds no tokens.
        NotFoundError: No such table or branch.
        RefusedError: A rule of the branch forbids it.
        ConflictError: The branch moves faster than the table can be packed.
    """
    check_packing(packing, sequence_length)
    check_table_name(table)
    check_text(message, "message")
    repo.check_takes_commits(branch, author=author, signer=signer)
    told: dict[str, Any] = {"author": author, "signer": signer}
    told["message"] = message or f"pack {table}: {packing}, {sequence_length}"
    told["made_by"] = {
        "kind": "pack",
        "table": table,
        "packing": packing,
        "sequence_length": sequence_length,
        "code": code_versions("pyfactory", "numpy", "pyarrow"),
    }
    with writing(repo, f"packing of {table} by {author}", progress) as telling, open_executor(workers) as executor:
        for _ in range(_TRIES):
            head = repo.head(branch)
            before = _state(repo, head, table, branch)
            packed, after = with_packing(repo, before, packing, sequence_length, executor, telling)
            done = _commit(repo, table, before, after, head, branch, told)
            if done is not None:
                truncated = _truncated_documents(repo.objects, packed.index)
                named = done.digest, done.created, table, after.digest, packed.digest
                return PackReport(*named, packed.computed, packed.reused, report_of(packed.index), truncated)
    raise ConflictError(f"table {table!r} on {branch} changes faster than it is packed", hint="run it again")


def with_packing(
    repo: Repository, state: TableState, method: str, length: int, executor: Executor, progress: Progress
) -> tuple[Packed, TableState]:
    """Return a packing table of a table, stored, and the table with it."""
    packed = pack_table(repo.objects, Manifest(repo.objects, state.manifest), method, length, executor, progress)
    return packed, replace(state, artifacts={**state.artifacts, artifact_name(method, length): packed.digest})


def _truncated_documents(objects: Objects, index: PackingIndex) -> int:
    if index.method != "documents":
        return 0
    found = 0
    for number, entry in enumerate(index.ranges):
        if entry.truncated:
            packed = load_range(objects.map(entry.digest), entry, index.length, f"range {number} ({entry.digest})")
            stops = np.append(packed.first[1:], packed.tokens)  # one piece for each document, in their order
            found += int(np.count_nonzero(stops - packed.first > packed.count))
    return found


def _state(repo: Repository, head: Digest, table: str, branch: str) -> TableState:
    tables = {} if head == NO_DIGEST else repo.tables(head)
    if table not in tables:
        raise NotFoundError(f"{repo.url}: there is no table {table!r} on {branch}", hint=suggestion(table, tables))
    if "width" not in tables[table].attributes:
        hint = "pack a table that a job with `tokenize` built"
        raise InvalidInputError(f"{repo.url}: table {table!r} on {branch} holds no tokens", hint=hint)
    return tables[table]


def _commit(
    repo: Repository,
    table: str,
    before: TableState,
    after: TableState,
    head: Digest,
    branch: str,
    told: dict[str, Any],
) -> CommitResult | None:
    """Commit the table; None if it was changed meanwhile, so that it must be packed anew."""
    while True:
        try:
            return repo.commit({table: after}, branch, expected_head=head, **told)
        except ConflictError:
            seen, head = head, repo.head(branch)
            if head == seen:
                raise  # not because somebody else committed
            if _state(repo, head, table, branch) != before:
                return None
