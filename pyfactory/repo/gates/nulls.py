"""The gate `nulls`: shares of nulls and of blank texts in the added rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.options import SHARE, TEXTS, option, ratio
from pyfactory.repo.gates.rows import evidence, gather
from pyfactory.shard.layout import TOKENS, text_columns

__all__ = ["Absent", "Nulls"]


@dataclass(frozen=True)
class Nulls:
    """At most so many rows whose value is null, and at most so many whose text is blank, in each column."""

    name: ClassVar[str] = "nulls"
    version: ClassVar[int] = 1

    max_null: Decimal = option("0.05", SHARE, "share of the added rows that may be null in a column")
    max_blank: Decimal = option("0.01", SHARE, "share that may be empty or white space only, or have no tokens")
    columns: tuple[str, ...] = option((), TEXTS, "the columns looked at; all without it")

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        if proposal.after is None:
            return "would be removed"
        known = [name for name, _, _ in proposal.after.schema]
        missing = [column for column in self.columns if column not in known]
        return f"has no column {', '.join(map(repr, missing))}" if missing else ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict: the worst column decides."""
        gathered = gather(proposal, Absent())
        counts = gathered.counts
        rows, kinds = proposal.added_rows, {"null": self.max_null, "blank": self.max_blank}
        columns = self.columns or tuple(name for name, _, _ in proposal.after.schema) if proposal.after else ()
        found: dict[str, str | int] = {"rows": rows}
        wrong: list[str] = []
        for column in columns:
            for kind, most in kinds.items():
                count = counts.get(f"{kind}:{column}", 0)
                if count:
                    found[f"{kind}:{column}"] = count
                if not allowed(count, rows, most):
                    wrong.append(f"{kind}:{column}")
        reason = self._reason(counts, rows, wrong)
        ids = evidence(proposal.objects, [row for name in wrong for row in gathered.rows.get(name, [])])
        return answer(self, proposal, reason, found, passed=not wrong, evidence=ids)

    def _reason(self, counts: dict[str, int], rows: int, wrong: list[str]) -> str:
        limits = {"null": self.max_null, "blank": self.max_blank}
        if not wrong:
            most = " or ".join(f"{kind} in over {percent(share)}" for kind, share in limits.items())
            return f"no column of the {rows:,} added rows is {most} of them"
        told = []
        for name in wrong:
            kind, _, column = name.partition(":")
            share = f"{percent(ratio(counts[name], rows))}, over {percent(limits[kind])}"
            told.append(f"{column!r} is {kind} in {counts[name]:,} of {rows:,} added rows, {share}")
        return "; ".join(told)


class Absent(Tally):
    """Counts `null:COLUMN` and `blank:COLUMN`: text that is empty or all white space, documents without tokens."""

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("absent", 1)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts and rows of each column."""
        masks: dict[str, pa.Array] = {}
        for column in batch.schema.names:
            masks[f"null:{column}"] = batch.column(column).is_null()
        for column in text_columns(batch.schema):
            texts = batch.column(column)
            empty = pc.equal(pc.binary_length(texts), 0)
            masks[f"blank:{column}"] = pc.fill_null(pc.or_(empty, pc.utf8_is_space(texts)), False)
        if batch.schema.names == [TOKENS]:
            masks[f"blank:{TOKENS}"] = pc.equal(pc.list_value_length(batch.column(0)), 0)
        rows = {name: np.flatnonzero(mask.to_numpy(zero_copy_only=False)) for name, mask in masks.items()}
        return {name: len(found) for name, found in rows.items()}, rows
