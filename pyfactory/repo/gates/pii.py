"""The gate `pii`: addresses, phone numbers, card numbers and secrets in the texts of the added rows.

One vectorised pass over a column (RE2, linear in its bytes) picks the rows that may hold something; only those reach
the detectors in Python. What was found is never kept, only in which rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.options import SHARE, TEXTS, option, ratio
from pyfactory.repo.gates.pii_addresses import EMAIL_HINT, IP_HINT, find_emails, find_ips
from pyfactory.repo.gates.pii_keys import KEY_HINT, find_keys
from pyfactory.repo.gates.pii_numbers import CARD_HINT, PHONE_HINT, find_cards, find_phones
from pyfactory.repo.gates.rows import evidence, gather
from pyfactory.repo.gates.texts import text_obstacle, texts_at
from pyfactory.repo.names import suggestion
from pyfactory.shard.layout import TEXT

__all__ = ["DETECTORS", "KINDS", "PersonalRows", "Pii", "find_kinds"]

DETECTORS: Mapping[str, tuple[str, Callable[[str], Iterator[str]]]] = MappingProxyType(
    {
        "card": (CARD_HINT, find_cards),
        "email": (EMAIL_HINT, find_emails),
        "ip": (IP_HINT, find_ips),
        "key": (KEY_HINT, find_keys),
        "phone": (PHONE_HINT, find_phones),
    }
)
"""By kind, an RE2 pattern that every text with it matches, and what yields the kinds found in a text."""

_RESERVED = ("email_reserved", "ip_reserved")

KINDS = (*DETECTORS, *_RESERVED)
"""Kinds that the gate can forbid; the reserved ones are addresses that are nobody's (private, for documentation)."""


def find_kinds(text: str) -> set[str]:
    """Return the kinds found in a text, out of `KINDS`. Linear in its length."""
    return {kind for _, find in DETECTORS.values() for kind in find(text)}


@dataclass(frozen=True)
class Pii:
    """At most so many added rows with personal data or secrets in their texts."""

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 1

    kinds: tuple[str, ...] = option(tuple(DETECTORS), TEXTS, f"what counts, out of {', '.join(KINDS)}")
    max_share: Decimal = option("0", SHARE, "share of the added rows that may hold something of these kinds")
    columns: tuple[str, ...] = option((TEXT,), TEXTS, "the columns looked at")

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InvalidInputError(f"the gate pii knows no kind {kind!r}", hint=suggestion(kind, KINDS))
        if not self.kinds or not self.columns:
            raise InvalidInputError("the gate pii looks for nothing", hint="name at least one kind and one column")

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return text_obstacle(proposal, self.columns)

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict on the added rows."""
        gathered = gather(proposal, PersonalRows(self.columns))
        rows, forbidden = proposal.added_rows, set(self.kinds)
        hits = sum(
            count
            for name, count in gathered.counts.items()
            if name.startswith("=") and forbidden & {*name[1:].split("+")}
        )
        found = {"rows": rows, "hits": hits} | {
            kind: gathered.counts[kind] for kind in KINDS if kind in gathered.counts
        }
        told = ", ".join(f"{kind} {found[kind]:,}" for kind in KINDS if kind in forbidden and kind in found)
        share = f"{hits:,} of {rows:,} added rows ({percent(ratio(hits, rows))}) hold personal data or secrets"
        reason = f"{share}{f' ({told})' if told else ''}; {percent(self.max_share)} may"
        ids = evidence(proposal.objects, [row for kind in self.kinds for row in gathered.rows.get(kind, [])])
        return answer(self, proposal, reason, found, passed=allowed(hits, rows, self.max_share), evidence=ids)


@dataclass(frozen=True)
class PersonalRows(Tally):
    """Counts rows: `KIND` with something of a kind, `=KIND+KIND` with exactly these kinds; shows rows of each kind.

    Attributes:
        columns: The columns looked at.
    """

    columns: tuple[str, ...] = (TEXT,)

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("pii", 1, columns=sorted(self.columns))

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts and rows."""
        kinds_of: dict[int, set[str]] = defaultdict(set)
        for column in self.columns:
            if column in batch.schema.names:
                _look(batch.column(column), kinds_of)
        counts: dict[str, int] = defaultdict(int)
        shown: dict[str, list[int]] = defaultdict(list)
        for row in sorted(kinds_of):
            counts["=" + "+".join(sorted(kinds_of[row]))] += 1
            for kind in kinds_of[row]:
                counts[kind] += 1
                shown[kind].append(row)
        return counts, shown


def _look(column: pa.Array, kinds_of: dict[int, set[str]]) -> None:
    """Add what a column holds: all hints in one pass, then each hint over the rows that matched any."""
    any_hint = "|".join(f"(?:{hint})" for hint, _ in DETECTORS.values())
    candidates = np.flatnonzero(_matches(column, any_hint))
    if not len(candidates):
        return
    narrowed = column.take(pa.array(candidates))
    for hint, find in DETECTORS.values():
        at = np.flatnonzero(_matches(narrowed, hint))
        for row, text in zip(candidates[at].tolist(), texts_at(narrowed, at), strict=True):
            found = set(find(text))
            if found:
                kinds_of[row] |= found


def _matches(column: pa.Array, pattern: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    matches = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = matches.to_numpy(zero_copy_only=False)
    return mask
