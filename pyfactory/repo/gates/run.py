"""What the gates of a branch say of a proposed state of its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyfactory.repo.gates.answer import answer
from pyfactory.repo.gates.base import Gate, Proposal, Verdict
from pyfactory.repo.gates.open import make_gate
from pyfactory.repo.gates.sketch import THREADS, Sketches
from pyfactory.repo.objects import TableState, Tree
from pyfactory.repo.rules import GateRule
from pyfactory.shard.diff import diff_manifests
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

if TYPE_CHECKING:
    from pyfactory.core.digest import Digest

__all__ = ["ALL", "changed_parts", "judge"]

ALL = "*"
"""The table of a rule for every table that changes."""


def judge(
    objects: Objects,
    rules: Sequence[GateRule],
    before: Tree | None,
    after: Tree,
    *,
    threads: int = THREADS,
    keep: bool = True,
) -> list[Verdict]:
    """Return the verdicts on a change of tables, in the order of the rules, and of the names of tables in each.

    A rule for all tables judges each that changes and that its gate can judge; one that names a table judges it
    whether or not it changes, and fails if there is none such. Equal changes get equal verdicts, whatever is kept.

    Args:
        objects: Where the tables are.
        rules: The gates of the target branch.
        before: The tables of the target branch now; None if it has no commit.
        after: The tables that it would have.
        threads: Shards looked at side by side.
        keep: Whether what is measured is stored, for the next time.

    Raises:
        InvalidInputError: A rule asks for a gate or an option that there is not.
        CorruptError: A shard is missing or damaged.
    """
    gates = [(rule, make_gate(rule)) for rule in rules]
    base = before.tables if before is not None else {}
    proposals = _Proposals(objects, base, after.tables, Sketches(objects, threads=threads, keep=keep))
    verdicts = []
    for rule, gate in gates:
        names = proposals.changed() if rule.table == ALL else [rule.table]
        for name in names:
            proposal = proposals.of(name)
            obstacle = _obstacle(gate, proposal)
            if not obstacle:
                verdicts.append(gate.judge(proposal))
            elif rule.table != ALL:
                verdicts.append(answer(gate, proposal, obstacle, {}, passed=False))
    if all(verdict.passed for verdict in verdicts):
        proposals.carry()
    return verdicts


def changed_parts(
    objects: Objects, before: Digest | None, after: Digest | None
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the shards that only one of two manifests has: (added, removed), in order.

    A shard that has only moved is neither. O(differences * log shards).
    """
    added: list[Part] = []
    removed: list[Part] = []
    for difference in diff_manifests(objects, before, after):
        if difference.after is not None:
            added.append(difference.after.part)
        if difference.before is not None:
            removed.append(difference.before.part)
    moved = Counter(added) & Counter(removed)
    return _without(added, moved), _without(removed, moved)


class _Proposals:
    """The tables of one change, each compared once."""

    def __init__(
        self,
        objects: Objects,
        before: Mapping[str, TableState],
        after: Mapping[str, TableState],
        sketches: Sketches,
    ) -> None:
        self._objects = objects
        self._before = before
        self._after = after
        self._sketches = sketches
        self._made: dict[str, Proposal] = {}

    def changed(self) -> list[str]:
        """Return the names of the tables that change, ascending."""
        names = sorted({*self._before, *self._after})
        return [name for name in names if self._before.get(name) != self._after.get(name)]

    def of(self, name: str) -> Proposal:
        """Return what is proposed for a table."""
        if name not in self._made:
            before, after = self._before.get(name), self._after.get(name)
            roots = [None if state is None else state.manifest for state in (before, after)]
            added, removed = changed_parts(self._objects, roots[0], roots[1])
            if before is not None and after is not None:
                self._sketches.relate(after, before, added, removed)
            self._made[name] = Proposal(
                self._objects, name, before, after, added, removed, self._before, self._sketches
            )
        return self._made[name]

    def carry(self) -> None:
        """Keep the totals of the new tables that the gates wanted of the old ones: the next change starts there."""
        for proposal in self._made.values():
            if proposal.before is not None and proposal.after is not None:
                self._sketches.carry(proposal.before, proposal.after)


def _obstacle(gate: Gate, proposal: Proposal) -> str:
    """Return why a table cannot be judged, as a sentence, or ""."""
    if proposal.before is None and proposal.after is None:
        return f"there is no table {proposal.table!r}"
    obstacle = gate.obstacle(proposal)
    return f"the table {proposal.table!r} {obstacle}" if obstacle else ""


def _without(parts: list[Part], moved: Counter[Part]) -> tuple[Part, ...]:
    """Return parts less those that moved, of equal ones the first."""
    left = Counter(moved)
    kept = []
    for part in parts:
        if left[part]:
            left[part] -= 1
        else:
            kept.append(part)
    return tuple(kept)
