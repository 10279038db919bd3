"""The gate `contamination`: added rows that share windows of n words with evaluation sets.

Paraphrases and translations share none and pass; a text with fewer than n words cannot match. Equality of windows is
that of 64-bit hashes (`contamination_ngrams` says how often that errs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.contamination_ngrams import windows_of
from pyfactory.repo.gates.contamination_sets import MAX_N, EvaluationSet, load_set
from pyfactory.repo.gates.options import COUNT, SHARE, TEXT, TEXTS, option, ratio
from pyfactory.repo.gates.rows import evidence, gather
from pyfactory.repo.gates.texts import text_obstacle, texts_at
from pyfactory.store.content import Objects

__all__ = ["DEFAULT_N", "Contamination", "OverlapRows", "check_set_name", "digests_in_options"]

DEFAULT_N = 13
"""Words of a window, as in the report on GPT-3 (Brown et al. 2020, appendix C)."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_SET = re.compile(rf"({_NAME})=([0-9a-f]{{64}})", re.ASCII)


@dataclass(frozen=True)
class Contamination:
    """At most so many added rows that share windows of words with evaluation sets."""

    name: ClassVar[str] = "contamination"
    version: ClassVar[int] = 1

    sets: tuple[str, ...] = option((), TEXTS, 'evaluation sets as "NAME=DIGEST", from `pyfactory gate add-set`')
    n: int = option(DEFAULT_N, COUNT, "words of a window; the sets must have been made with it")
    min_hits: int = option(1, COUNT, "windows that a row must share with a set to count")
    max_share: Decimal = option("0", SHARE, "share of the added rows that may share windows")
    column: str = option("text", TEXT, "the column looked at")

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_N or self.min_hits < 1:
            raise InvalidInputError(f"the gate contamination needs min_hits of 1 or more and n from 1 to {MAX_N}")
        if not self.sets:
            raise InvalidInputError("the gate contamination has no sets", hint="make one with `pyfactory gate add-set`")
        self._digests()

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return text_obstacle(proposal, [self.column])

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict on the added rows.

        Raises:
            NotFoundError: A set is not in the repository.
            InvalidInputError: A set was made with another n.
        """
        sets = self.load_sets(proposal.objects)
        gathered = gather(proposal, OverlapRows(self.column, self.n, self.min_hits, tuple(sorted(self.sets)), sets))
        rows, counts = proposal.added_rows, gathered.counts
        hits, short = counts.get("hit", 0), counts.get("short", 0)
        found: dict[str, str | int] = {"rows": rows, "hits": hits, "short": short}
        found |= {f"set:{name}": counts[f"set:{name}"] for name in sorted(sets) if f"set:{name}" in counts}
        told = ", ".join(f"{name} {found[f'set:{name}']:,}" for name in sorted(sets) if f"set:{name}" in found)
        share = f"{hits:,} of {rows:,} added rows ({percent(ratio(hits, rows))}) share {self.n} words in a row"
        unable = f"; {short:,} have fewer words than that" if short else ""
        reason = f"{share} with {told or 'an evaluation set'}; {percent(self.max_share)} may{unable}"
        ids = evidence(proposal.objects, gathered.rows.get("hit", []))
        return answer(self, proposal, reason, found, passed=allowed(hits, rows, self.max_share), evidence=ids)

    def load_sets(self, objects: Objects) -> dict[str, EvaluationSet]:
        """Return the sets by name; errors as of `judge`, and CorruptError if one is none."""
        return {name: self._load(objects, name, digest) for name, digest in self._digests().items()}

    def _digests(self) -> dict[str, Digest]:
        digests: dict[str, Digest] = {}
        for item in self.sets:
            match = _SET.fullmatch(item)
            if match is None or match[1] in digests:
                raise InvalidInputError(
                    f"the gate contamination: {item!r} names no evaluation set",
                    hint='write each once, as "NAME=DIGEST"',
                )
            digests[match[1]] = Digest(match[2])
        return digests

    def _load(self, objects: Objects, name: str, digest: Digest) -> EvaluationSet:
        found = load_set(objects, digest, f"the evaluation set {name} ({digest[:12]})")
        if found.n != self.n:
            raise InvalidInputError(
                f"the evaluation set {name} has windows of {found.n} words, the gate contamination of {self.n}",
                hint=f"set the option n to {found.n}, or add the set again",
            )
        return found


@dataclass(frozen=True)
class OverlapRows(Tally):
    """Counts rows: `hit` that share windows with any set, `set:NAME` with one, `short` of fewer than n words.

    Attributes:
        column: The column looked at.
        n: Words of a window.
        min_hits: Windows that a row must share with a set.
        named: The sets as "NAME=DIGEST", sorted: with the rest they are what the values depend on.
        sets: The sets by name.
    """

    column: str
    n: int
    min_hits: int
    named: tuple[str, ...]
    sets: Mapping[str, EvaluationSet]

    @property
    def name(self) -> str:
        """See `Measure`."""
        sets = [*self.named]
        return measure_name("contamination", 1, column=self.column, n=self.n, min_hits=self.min_hits, sets=sets)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts and rows."""
        if self.column not in batch.schema.names:
            return {}, {}
        words = np.zeros(batch.num_rows, np.int64)
        hits = {name: np.zeros(batch.num_rows, np.int64) for name in self.sets}
        for windows in windows_of(texts_at(batch.column(self.column), range(batch.num_rows)), self.n):
            words[windows.words[0]] += windows.words[1]
            for name, known in self.sets.items():
                np.add.at(hits[name], windows.rows[known.contains(windows.hashes)], 1)
        masks = {f"set:{name}": shared >= self.min_hits for name, shared in hits.items()}
        masks["hit"] = np.logical_or.reduce([*masks.values()])
        counts = {name: int(mask.sum()) for name, mask in masks.items()} | {"short": int((words < self.n).sum())}
        return counts, {name: np.flatnonzero(mask) for name, mask in masks.items()}


def check_set_name(name: str) -> None:
    """Raise InvalidInputError unless an evaluation set may be called `name`."""
    if not re.fullmatch(_NAME, name, re.ASCII):
        hint = "use up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit"
        raise InvalidInputError(f"an evaluation set cannot be called {name[:80]!a}", hint=hint)


def digests_in_options(options: Mapping[str, Any]) -> tuple[Digest, ...]:
    """Return the objects that a rule of this gate needs, as far as its options are well formed."""
    items = options.get("sets", ())
    matches = (
        [_SET.fullmatch(item) for item in items if isinstance(item, str)] if isinstance(items, list | tuple) else []
    )
    return tuple(Digest(match[2]) for match in matches if match)
