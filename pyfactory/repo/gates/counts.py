"""The gate `counts`: how much there is, and how much of it may change at once. Nothing is read."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import Proposal, Verdict
from pyfactory.repo.gates.options import COUNT, DECIMAL, SHARE, option, ratio, rounded

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts:
    """Rows, tokens and shards within bounds; rows added and removed at most shares of the rows of the target.

    A shard that is written anew counts as removed and as added, so `max_removed` also stops a silent rewrite.
    """

    name: ClassVar[str] = "counts"
    version: ClassVar[int] = 1

    min_rows: int | None = option(1, COUNT, "fewest rows of the whole table")
    max_rows: int | None = option(None, COUNT, "most rows of the whole table")
    min_tokens: int | None = option(None, COUNT, "fewest tokens of the whole table")
    max_tokens: int | None = option(None, COUNT, "most tokens of the whole table")
    min_shards: int | None = option(None, COUNT, "fewest shards of the whole table")
    max_shards: int | None = option(None, COUNT, "most shards of the whole table")
    max_removed: Decimal | None = option("0.5", SHARE, "most rows in shards that go, as a share of the target's rows")
    max_added: Decimal | None = option(None, DECIMAL, "most rows in shards that come, as a share of the target's rows")

    def __post_init__(self) -> None:
        for what in ("rows", "tokens", "shards"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least is not None and most is not None and least > most:
                raise InvalidInputError(
                    f"the gate counts: min_{what} {least} is above max_{what} {most}", hint="no table could pass"
                )

    def obstacle(self, proposal: Proposal) -> str:
        """Return "": any table can be counted, also one that would be removed."""
        return ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict."""
        after = proposal.after
        held = {
            "rows": after.rows if after else 0,
            "tokens": after.tokens if after else 0,
            "shards": after.shards if after else 0,
        }
        before = proposal.before.rows if proposal.before else 0
        moved = {"removed": proposal.removed_rows, "added": proposal.added_rows}
        faults = self._out_of_bounds(held) + (self._too_much(moved, before) if before else [])
        found: dict[str, str | int] = {**held, "rows added": moved["added"], "rows removed": moved["removed"]}
        if before:
            found |= {f"share {what}": rounded(ratio(rows, before)) for what, rows in moved.items()}
        told = f"{held['rows']:,} rows, {moved['added']:,} added and {moved['removed']:,} removed, are within bounds"
        return answer(self, proposal, "; ".join(faults) or told, found, passed=not faults)

    def _out_of_bounds(self, held: dict[str, int]) -> list[str]:
        faults = []
        for what, count in held.items():
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least is not None and count < least:
                faults.append(f"{count:,} {what}, fewer than {least:,}")
            if most is not None and count > most:
                faults.append(f"{count:,} {what}, more than {most:,}")
        return faults

    def _too_much(self, moved: dict[str, int], before: int) -> list[str]:
        faults = []
        for what, rows in moved.items():
            most = getattr(self, f"max_{what}")
            if most is not None and not allowed(rows, before, most):
                share = percent(ratio(rows, before))
                faults.append(f"{rows:,} rows {what}, {share} of the {before:,} of the target, over {percent(most)}")
        return faults
