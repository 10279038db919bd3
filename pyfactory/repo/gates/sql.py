"""The gate `sql`: a query over the added rows that must return nothing.

The query sees two views: `added`, the added rows with their record ids as the column `id`; and `target`, one row for
each table of the target branch (`table_name`, `rows`, `tokens`, `shards`, `bytes`). It sees no file, no network and no
Python variable, and can change no setting.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from pyfactory.errors import InvalidInputError, UnavailableError
from pyfactory.repo.gates.answer import answer
from pyfactory.repo.gates.base import EVIDENCE, Proposal, Verdict
from pyfactory.repo.gates.options import TEXT, option
from pyfactory.repo.gates.rows import ID, known_ids, rows_with_ids
from pyfactory.repo.sql import closed_connection, named_tables, sql_errors
from pyfactory.shard.layout import schema_from_value

__all__ = ["Sql"]


@dataclass(frozen=True)
class Sql:
    """Each row that the query returns is an offence; an assertion is written `select ... where not (...)`."""

    name: ClassVar[str] = "sql"
    version: ClassVar[int] = 1

    query: str = option("", TEXT, "one select over `added` and `target`; its column `id`, if any, becomes evidence")

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise InvalidInputError("the gate sql has no query", hint='give query="select id from added where ..."')

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return "would be removed" if proposal.after is None else ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict. Over local files the rows stay in their mapped files, else they are held in memory.

        Raises:
            InvalidInputError: The query is not one select, or it fails.
        """
        offences, ids = _asked(self.query, _added(proposal), _target(proposal))
        known = known_ids(proposal.objects, proposal.added, ids)
        reason = (
            f"the query returns {offences:,} row{'' if offences == 1 else 's'} over {proposal.added_rows:,} added rows"
        )
        return answer(
            self,
            proposal,
            f"{reason}; it must return none",
            {"rows": proposal.added_rows, "returned": offences},
            passed=not offences,
            evidence=tuple(record_id for record_id in ids if record_id in known),
        )


def _added(proposal: Proposal) -> pa.Table:
    batches = [*proposal.sketches.each(lambda part: rows_with_ids(proposal.objects, part), proposal.added)]
    if batches:
        return pa.Table.from_batches(batches)
    columns = [list(column) for column in proposal.after.schema] if proposal.after else []
    schema = schema_from_value([column for column in columns if column[0] != ID])
    return schema.append(pa.field(ID, pa.large_string(), nullable=False)).empty_table()


def _target(proposal: Proposal) -> pa.Table:
    names = ("table_name", "rows", "tokens", "shards", "bytes")
    rows = [
        (name, state.rows, state.tokens, state.shards, state.nbytes) for name, state in sorted(proposal.base.items())
    ]
    schema = pa.schema([(name, pa.int64() if at else pa.large_string()) for at, name in enumerate(names)])
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema)


def _asked(query: str, added: pa.Table, target: pa.Table) -> tuple[int, list[str]]:
    """Return how many rows a query returns, and the first of their ids in order."""
    try:
        with closed_connection(None) as connection, sql_errors():
            connection.register("added", added)
            connection.register("target", target)
            named_tables(connection, query)  # which refuses what is not one query
            return _counted(connection.sql(query).to_arrow_reader())
    except (InvalidInputError, UnavailableError) as error:
        raise type(error)(f"the gate sql: {error.message}", hint=error.hint) from error


def _counted(answers: Iterable[pa.RecordBatch]) -> tuple[int, list[str]]:
    offences = 0
    ids: list[str] = []
    for batch in answers:
        offences += batch.num_rows
        if ID in batch.schema.names:
            texts = {str(value) for value in batch.column(ID).to_pylist() if value is not None}
            ids = heapq.nsmallest(EVIDENCE, {*ids, *texts})
    return offences, ids
