"""The gate `language`: which languages the texts are in, told apart on this machine.

The only home of `py3langid`. Its model gives each text a language and a probability; a text that is too short or gives
no clear answer (numbers, code, lists) is `und`, undetermined.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import ClassVar, Protocol

import pyarrow as pa

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.options import COUNT, SHARE, TEXT, TEXTS, option, ratio
from pyfactory.repo.gates.rows import evidence, gather
from pyfactory.repo.gates.texts import text_obstacle, texts_at

__all__ = ["UNDETERMINED", "Language", "LanguageRows", "language_of"]

UNDETERMINED = "und"
"""ISO 639 code of texts whose language cannot be told."""

_LOOKED_AT = 1000
"""Characters of a text that are looked at; more costs time and changes few answers."""

_MIN_PROBABILITY = 0.25
_NO_LANGUAGE = "zxx"
"""What the model calls text in no language at all."""

_CODE = re.compile(r"[a-z]{2,3}", re.ASCII)
_MIX = re.compile(r"([a-z]{2,3})=(1(?:\.0{1,6})?|0(?:\.\d{1,6})?)", re.ASCII)
_loading = threading.Lock()


class _Identifier(Protocol):
    nb_classes: list[str]

    def classify(self, text: str) -> tuple[str, float]:
        """Return a language and its probability."""


def language_of(text: str, min_length: int = 20) -> str:
    """Return the ISO 639 code of a text's language, `und` if it has fewer characters or no clear language.

    Looks at the first 1,000 characters only. Any number of threads may call it.
    """
    start = text[:_LOOKED_AT].strip()
    if len(start) < max(1, min_length):
        return UNDETERMINED
    language, probability = _identifier().classify(start)
    return UNDETERMINED if language == _NO_LANGUAGE or probability < _MIN_PROBABILITY else language


@dataclass(frozen=True)
class Language:
    """Only allowed languages in the added rows, or an expected mix of languages in the table."""

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    allowed: tuple[str, ...] = option((), TEXTS, "ISO 639 codes that the added rows may be in; und for undetermined")
    max_share: Decimal = option("0.05", SHARE, "share of the added rows that may be in others")
    mix: tuple[str, ...] = option((), TEXTS, 'shares that languages should have in the whole table, as "en=0.8"')
    tolerance: Decimal = option("0.05", SHARE, "how far a share may be from the expected one, either way")
    min_length: int = option(20, COUNT, "characters below which a text is undetermined")
    column: str = option("text", TEXT, "the column looked at")

    def __post_init__(self) -> None:
        if not self.allowed and not self.mix:
            raise InvalidInputError("the gate language has nothing to ask for", hint="give it allowed = or mix =")
        shares = self._shares()
        known = _known()
        for code in (*self.allowed, *shares):
            if not _CODE.fullmatch(code) or code not in known:
                raise InvalidInputError(f"the gate language cannot tell {code!r}", hint=f"it knows {', '.join(known)}")

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return text_obstacle(proposal, [self.column])

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict: on the added rows for `allowed`, on the whole table for `mix`."""
        measure = LanguageRows(self.column, self.min_length)
        gathered = gather(proposal, measure)
        rows = proposal.added_rows
        found: dict[str, str | int] = {"rows": rows, **_largest(gathered.counts)}
        passed, reasons = True, []
        ids: tuple[str, ...] = ()
        if self.allowed:
            others = {code: count for code, count in gathered.counts.items() if code not in self.allowed}
            strange = sum(others.values())
            passed = allowed(strange, rows, self.max_share)
            told = ", ".join(f"{code} {count:,}" for code, count in _largest(others).items())
            share = f"{strange:,} of {rows:,} added rows ({percent(ratio(strange, rows))})"
            wanted = f"{', '.join(self.allowed)}{f' but in {told}' if told else ''}"
            reasons.append(f"{share} are not in {wanted}; {percent(self.max_share)} may")
            found["others"] = strange
            ids = evidence(proposal.objects, [row for code in others for row in gathered.rows.get(code, [])])
        if self.mix:
            counts = proposal.sketches.total(measure, proposal.after)["counts"]
            wrong = self._off(counts, found)
            passed = passed and not wrong
            reasons += wrong or [f"the mix of languages is as asked for, within {percent(self.tolerance)}"]
        return answer(self, proposal, "; ".join(reasons), found, passed=passed, evidence=ids)

    def _off(self, counts: Mapping[str, int], found: dict[str, str | int]) -> list[str]:
        """Return what is wrong with the mix of a table, and note its shares in `found`."""
        wrong, rows, shares = [], sum(counts.values()), self._shares()
        rest = rows - sum(counts.get(code, 0) for code in shares)
        for code, expected in shares.items():
            share = ratio(counts.get(code, 0), rows)
            found[f"share:{code}"] = percent(share)
            if rows and abs(share - expected) > self.tolerance:
                wrong.append(f"{percent(share)} of the table's {rows:,} rows are in {code}, not {percent(expected)}")
        found["share:others"] = percent(ratio(rest, rows))
        if ratio(rest, rows) > 1 - sum(shares.values()) + self.tolerance:
            wrong.append(f"{percent(ratio(rest, rows))} of the table's rows are in none of {', '.join(shares)}")
        return wrong

    def _shares(self) -> dict[str, Decimal]:
        shares: dict[str, Decimal] = {}
        for item in self.mix:
            match = _MIX.fullmatch(item)
            if match is None or match[1] in shares:
                raise InvalidInputError(
                    f"the gate language: {item!r} is no share of a language", hint='write each once, as "en=0.8"'
                )
            shares[match[1]] = Decimal(match[2])
        if sum(shares.values()) > 1:
            raise InvalidInputError("the gate language: the shares of the mix add up to more than 1")
        return shares


@dataclass(frozen=True)
class LanguageRows(Tally):
    """Counts rows by language, and shows some of each.

    Attributes:
        column: The column looked at.
        min_length: See `language_of`.
    """

    column: str = "text"
    min_length: int = 20

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("language", 1, column=self.column, min_length=self.min_length)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts and rows; every row has a language, if only `und`."""
        counts: dict[str, int] = defaultdict(int)
        shown: dict[str, list[int]] = defaultdict(list)
        if self.column in batch.schema.names:
            column = batch.column(self.column)
            for row, text in enumerate(texts_at(column, range(batch.num_rows))):
                language = language_of(text, self.min_length)
                counts[language] += 1
                shown[language].append(row)
        return counts, shown


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the ten largest counts, largest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10])


def _known() -> list[str]:
    return sorted({*_identifier().nb_classes, UNDETERMINED} - {_NO_LANGUAGE})


def _identifier() -> _Identifier:
    """Return the model, of our own so that nobody's change of the library's global one reaches us."""
    with _loading:
        return _load()


@cache
def _load() -> _Identifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier: _Identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier
