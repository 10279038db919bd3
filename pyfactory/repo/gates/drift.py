"""The gate `drift`: added rows beside the rows of the target, as distributions.

Two numbers compare the shares p of the one and q of the other over their buckets, natural logarithms:

    PSI = sum (p - q) ln(p / q)      Jensen-Shannon = 1/2 sum p ln(p / m) + 1/2 sum q ln(q / m), m = (p + q) / 2

A count c of n in B buckets is the share (c + 1/2) / (n + B/2), where B are the buckets that either side has anything
in, so that an empty bucket is rare and not impossible. PSI grows with the number of buckets over few rows even where
nothing has changed, by about B (1/n + 1/m).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
import pyarrow as pa

from pyfactory.core.digest import Hasher
from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import answer
from pyfactory.repo.gates.base import Counted, Measure, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.lengths import LengthHistogram
from pyfactory.repo.gates.options import DECIMAL, TEXT, TEXTS, option, rounded
from pyfactory.repo.objects import TableState
from pyfactory.shard.layout import TOKENS
from pyfactory.shard.reader import token_buffers

__all__ = ["ByteHistogram", "Drift", "TokenHistogram", "ValueHistogram", "jensen_shannon", "psi"]

_KINDS = ("lengths", "tokens", "bytes", "column")
_SCOPES = ("added", "table")
_BUCKETS = 1024
_CHUNK = 1 << 20
_PLACES = Decimal("0.0001")


@dataclass(frozen=True)
class Drift:
    """Lengths, tokens or bytes, and the values of a column are distributed much as they are in the target."""

    name: ClassVar[str] = "drift"
    version: ClassVar[int] = 1

    psi: Decimal | None = option("0.25", DECIMAL, "most PSI of each distribution")
    js: Decimal | None = option(None, DECIMAL, "most Jensen-Shannon divergence of each, in nats: 0 to 0.6932")
    of: str = option("added", TEXT, '"added": the added rows; "table": the whole table as it would be')
    measures: tuple[str, ...] = option(
        (), TEXTS, 'of "lengths", "tokens", "bytes", "column"; all that apply without it'
    )
    column: str = option("", TEXT, "a column whose values are compared, such as source")

    def __post_init__(self) -> None:
        wrong = [kind for kind in self.measures if kind not in _KINDS]
        if wrong:
            raise InvalidInputError(f"the gate drift: {wrong[0]!r} cannot be measured", hint=", ".join(_KINDS))
        if self.of not in _SCOPES:
            raise InvalidInputError(f"the gate drift: of is {self.of!r}", hint=f"give {' or '.join(_SCOPES)}")
        if "column" in self.measures and not self.column:
            raise InvalidInputError("the gate drift: no column is named", hint='give column="source"')

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        if proposal.after is None:
            return "would be removed"
        states = [state for state in (proposal.after, proposal.before) if state is not None]
        columns = [[name for name, _, _ in state.schema] for state in states]
        if self.column and not all(self.column in names for names in columns):
            return f"has no column {self.column!r}, or has none in the target"
        tokens = {names == [TOKENS] for names in columns}
        if len(tokens) > 1:
            return "holds text on one side and tokens on the other"
        impossible = "bytes" if tokens == {True} else "tokens"
        return f"has no {impossible} to measure" if impossible in self.measures else ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict: each distribution must be within each threshold."""
        before, after = proposal.before, proposal.after
        if before is None or after is None or not before.rows or not proposal.added_rows:
            what = "nothing is added" if proposal.before and proposal.before.rows else "the target has no rows"
            return answer(self, proposal, f"{what}: there is nothing to compare", {}, passed=True)
        found: dict[str, str | int] = {}
        faults, told = [], []
        for kind, measure in self._measures(after).items():
            ours = proposal.sketches.total(measure, proposal.added if self.of == "added" else after)["counts"]
            theirs = proposal.sketches.total(measure, before)["counts"]
            for number, value, most in (
                ("PSI", psi(ours, theirs), self.psi),
                ("JS", jensen_shannon(ours, theirs), self.js),
            ):
                found[f"{number} {kind}"] = rounded(value)
                told.append(f"{number} of {kind} is {rounded(value)}")
                if most is not None and value > most:
                    faults.append(f"{told[-1]}, over {rounded(most)}")
        whose = "added rows" if self.of == "added" else "the table"
        reason = "; ".join(faults) or f"{', '.join(told)}: within bounds"
        return answer(self, proposal, f"{whose} against the target: {reason}", found, passed=not faults)

    def _measures(self, after: TableState) -> dict[str, Measure]:
        tokens = [name for name, _, _ in after.schema] == [TOKENS]
        known: dict[str, Measure] = {"lengths": LengthHistogram()}
        known |= {"tokens": TokenHistogram()} if tokens else {"bytes": ByteHistogram()}
        if self.column:
            known["column"] = ValueHistogram(self.column)
        return {kind: measure for kind, measure in known.items() if not self.measures or kind in self.measures}


class TokenHistogram(Tally):
    """Counts tokens in 1,024 buckets: the upper 10 bits of id * 2,654,435,761 modulo 2^32."""

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("tokens", 1)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts; no rows."""
        values, _ = token_buffers(batch)
        counts = np.zeros(_BUCKETS, np.int64)
        for start in range(0, len(values), _CHUNK):
            buckets = (values[start : start + _CHUNK].astype(np.uint32) * np.uint32(2654435761)) >> np.uint32(22)
            counts += np.bincount(buckets, minlength=_BUCKETS)
        return {str(bucket): int(count) for bucket, count in enumerate(counts)}, {}


class ByteHistogram(Tally):
    """Counts the bytes of the first column by class: what kind of text it is, whatever it says."""

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("bytes", 1)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts; no rows."""
        texts = batch.column(0).cast(pa.large_binary())
        buffer = texts.buffers()[2]
        octets = np.frombuffer(buffer, np.uint8) if len(texts) and buffer is not None else np.zeros(0, np.uint8)
        if len(texts):
            bounds = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
            octets = octets[bounds[0] : bounds[-1]]
        counts = np.zeros(256, np.int64)
        for start in range(0, len(octets), _CHUNK):
            counts += np.bincount(octets[start : start + _CHUNK], minlength=256)
        return {name: int(counts[members].sum()) for name, members in _CLASSES.items()}, {}


@dataclass(frozen=True)
class ValueHistogram(Tally):
    """Counts the values of a column in 1,024 buckets, by the BLAKE3 of their text; nulls are a bucket of their own."""

    column: str

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("values", 1, column=self.column)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts; no rows."""
        counts: dict[str, int] = {}
        for pair in batch.column(self.column).value_counts().to_pylist():
            bucket = "null" if pair["values"] is None else _bucket(pair["values"])
            counts[bucket] = counts.get(bucket, 0) + pair["counts"]
        return counts, {}


def psi(ours: Mapping[str, int], theirs: Mapping[str, int]) -> Decimal:
    """Return the population stability index of two counts by bucket, to four places."""
    return _rounded(math.fsum((p - q) * math.log(p / q) for p, q in _shares(ours, theirs)))


def jensen_shannon(ours: Mapping[str, int], theirs: Mapping[str, int]) -> Decimal:
    """Return the Jensen-Shannon divergence of two counts by bucket in nats, 0 to ln 2, to four places."""
    pairs = [(p, q, (p + q) / 2) for p, q in _shares(ours, theirs)]
    return _rounded(math.fsum(p * math.log(p / m) + q * math.log(q / m) for p, q, m in pairs) / 2)


def _shares(ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[tuple[float, float]]:
    buckets = sorted({*ours, *theirs})
    whole, other = sum(ours.values()) + len(buckets) / 2, sum(theirs.values()) + len(buckets) / 2
    return [((ours.get(name, 0) + 0.5) / whole, (theirs.get(name, 0) + 0.5) / other) for name in buckets]


def _rounded(value: float) -> Decimal:
    return Decimal(max(value, 0.0)).quantize(_PLACES)  # never -0


def _bucket(value: object) -> str:
    octets = value if isinstance(value, bytes) else str(value).encode()
    return str(int.from_bytes(Hasher(octets).digest(length=2), "big") % _BUCKETS)


def _members(text: bytes | range) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(list(text), np.int64)


_LETTERS, _DIGITS, _BLANKS = b"abcdefghijklmnopqrstuvwxyz", b"0123456789", b" \t\n\r"
_CLASSES = {
    "lower": _members(_LETTERS),
    "upper": _members(_LETTERS.upper()),
    "digit": _members(_DIGITS),
    "space": _members(b" \t"),
    "line": _members(b"\n\r"),
    "sign": _members(bytes(code for code in range(33, 127) if not chr(code).isalnum())),
    "control": _members(bytes(code for code in (*range(32), 127) if code not in _BLANKS)),
    "continued": _members(range(0x80, 0xC0)),
    "lead of 2": _members(range(0xC0, 0xE0)),
    "lead of 3": _members(range(0xE0, 0xF0)),
    "lead of 4": _members(range(0xF0, 0x100)),
}
