"""The gate `lengths`: texts in characters, documents in tokens; too short or too long is told by record."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.options import COUNT, SHARE, option, ratio, rounded
from pyfactory.repo.gates.rows import evidence, gather
from pyfactory.shard.layout import TOKENS

__all__ = ["LengthHistogram", "Lengths", "log2_buckets", "record_lengths"]


@dataclass(frozen=True)
class Lengths:
    """At most a share of the added rows may be shorter than `min` or longer than `max`."""

    name: ClassVar[str] = "lengths"
    version: ClassVar[int] = 1

    min: int = option(1, COUNT, "fewest characters of a text, or tokens of a document")
    max: int | None = option(None, COUNT, "most characters of a text, or tokens of a document")
    max_outside: Decimal = option("0.01", SHARE, "share of the added rows that may be shorter or longer")

    def __post_init__(self) -> None:
        if self.max is not None and self.min > self.max:
            raise InvalidInputError(f"the gate lengths: min {self.min} is above max {self.max}", hint="swap them")

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return "would be removed" if proposal.after is None else ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict."""
        gathered = gather(proposal, OutOfRange(self.min, self.max))
        rows, short, long = proposal.added_rows, gathered.counts.get("short", 0), gathered.counts.get("long", 0)
        passed = allowed(short + long, rows, self.max_outside)
        share = ratio(short + long, rows)
        bounds = f"{self.min:,} to {self.max:,}" if self.max is not None else f"at least {self.min:,}"
        reason = (
            f"{short + long:,} of {rows:,} added rows, {percent(share)}, have a length other than {bounds} "
            f"({short:,} short, {long:,} long); {percent(self.max_outside)} may"
        )
        found: dict[str, str | int] = {"rows": rows, "short": short, "long": long, "share": rounded(share)}
        histogram = {name: count for name, count in gathered.counts.items() if name in _BUCKETS}
        found |= {f"length 2^{int(name) - 1}" if name != "0" else "length 0": histogram[name] for name in histogram}
        ids = () if passed else evidence(proposal.objects, [row for rows in gathered.rows.values() for row in rows])
        return answer(self, proposal, reason, found, passed=passed, evidence=ids)


_BUCKETS = frozenset(map(str, range(65)))  # what a forged sketch may call a bucket is none of them


@dataclass(frozen=True)
class OutOfRange(Tally):
    """Counts rows that are `short` or `long`, and the histogram of `log2_buckets`."""

    least: int
    most: int | None

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("out-of-range", 1, least=self.least, most=self.most)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts, and the rows that are out of range."""
        lengths = record_lengths(batch)
        rows = {"short": np.flatnonzero(lengths < self.least)}
        if self.most is not None:
            rows["long"] = np.flatnonzero(lengths > self.most)
        return {**log2_buckets(lengths), **{name: len(found) for name, found in rows.items()}}, rows


class LengthHistogram(Tally):
    """Counts rows by `log2_buckets` of their length."""

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("lengths", 1)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts; no rows."""
        return log2_buckets(record_lengths(batch)), {}


def record_lengths(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return int64[rows]: the characters (code points) of each text, or the tokens of each document."""
    column = batch.column(0)
    lengths: Any = pc.list_value_length(column) if batch.schema.names == [TOKENS] else pc.utf8_length(column)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


def log2_buckets(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Return counts by the number of binary digits of the length: "0" for 0, "1" for 1, "2" for 2 and 3, and so on."""
    # frexp is exact up to 2^53: x = m * 2^e with 0.5 <= m < 1, so e is the number of binary digits.
    digits = np.frexp(lengths.astype(np.float64))[1]
    counts = np.bincount(digits, minlength=1)
    return {str(digit): int(count) for digit, count in enumerate(counts) if count}
