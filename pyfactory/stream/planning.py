"""From what was asked for, phase by phase, to the phases that there are: where sources go on, end, or change table.

docs/stream-spec.md, sections 6 and 7, has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.native import Interleave
from pyfactory.order.packing import Geometry, Runs
from pyfactory.order.permutation import SourceOrder
from pyfactory.order.recipe import Recipe
from pyfactory.repo.version import Version
from pyfactory.stream.asking import AskedPhase, AskedSource, check_tokenizers
from pyfactory.stream.feed import Feed, StreamTable, open_geometry
from pyfactory.stream.phase import END, Leaf, Phase, UnseenLeaf, WholeLeaf
from pyfactory.stream.unseen import Unseen, compare

__all__ = ["Plan", "make_plan"]

_MOST_LEAVES = 1 << 18  # sources of all phases together, about 1 KB of memory each


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a stream consists of.

    Attributes:
        phases: In order; the first begins at 0, each next where the one before stops.
        feeds: By number.
        tables: By number.
        asked: The sources of each phase, as a phase that begins within it would ask for them to go on.
        cuts: How versions are cut into samples.
    """

    phases: tuple[Phase, ...]
    feeds: tuple[Feed, ...]
    tables: tuple[StreamTable, ...]
    asked: tuple[tuple[AskedSource, ...], ...]
    cuts: Mapping[tuple[Any, ...], tuple[Geometry, Digest | None]]

    def cut(self, version: Version, recipe: Recipe) -> tuple[Geometry, Digest | None]:
        """Return how a recipe cuts one of the versions into samples, and the digest of its packing table if any."""
        return self.cuts[_cut_key(version, recipe)]


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far a source has come.

    Attributes:
        cut: What must be the same for it to go on: version, packing, and how samples are cut and shuffled.
        index: The index that comes next; of an unseen source, its next number.
        next_epoch: The epoch that begins if it does not go on.
        leaf: The unseen source, None if it is whole.
    """

    cut: tuple[Any, ...]
    index: int
    next_epoch: int
    leaf: UnseenLeaf | None = None


def make_plan(
    asked: Sequence[AskedPhase], seed: int, compared: dict[tuple[Digest, Digest], Unseen] | None = None
) -> Plan:
    """Return the phases of a stream.

    Args:
        asked: What was asked for, by position; the first at 0.
        seed: Of the stream.
        compared: Versions that were compared before; new ones are added.

    Raises:
        InvalidInputError: It cannot be done; the message says where.
    """
    planner = _Planner(seed, {} if compared is None else compared)
    check_tokenizers(asked)
    for phase, following in zip(asked, [*asked[1:], None], strict=True):
        planner.add(phase, END if following is None else following.at)
    return planner.plan()


class _Planner:
    def __init__(self, seed: int, compared: dict[tuple[Digest, Digest], Unseen]) -> None:
        self._seed = seed
        self._compared = compared
        self._phases: list[Phase] = []
        self._feeds: list[Feed] = []
        self._tables: dict[tuple[Any, ...], tuple[int, StreamTable]] = {}
        self._cuts: dict[tuple[Any, ...], tuple[Geometry, Digest | None]] = {}
        self._asked: list[tuple[AskedSource, ...]] = []
        self._reached: dict[str, _Reached] = {}
        self._leaves = 0

    def plan(self) -> Plan:
        """Return what was planned."""
        tables = tuple(table for _, table in self._tables.values())
        return Plan(tuple(self._phases), tuple(self._feeds), tables, tuple(self._asked), self._cuts)

    def add(self, asked: AskedPhase, end: int) -> None:
        """Add the phases from one that was asked for to the next one, at `end`."""
        at, sources = asked.at, asked.sources
        if self._phases and self._phases[-1].stop is not None and self._phases[-1].stop < at:
            raise InvalidInputError(
                f"the stream ends at position {self._phases[-1].stop}, before the phase at {at}",
                hint="begin the phase where the stream ends, or let sources come more often",
            )
        while at < end:
            leaves = self._open(asked.recipe, sources)
            if not leaves:
                if not self._phases:
                    raise InvalidInputError("no source gives a single sample", hint="let one come more often")
                return
            at, sources = self._begin(asked.recipe, sources, leaves, at, end)

    def _begin(
        self, recipe: Recipe, sources: tuple[AskedSource, ...], leaves: Sequence[Leaf], start: int, end: int
    ) -> tuple[int, tuple[AskedSource, ...]]:
        """Add one phase; return where it stops, and the sources that the next one has if nobody asks for others."""
        split = Interleave(np.array([leaf.weight for leaf in leaves], np.uint64))
        ending = [which for which, leaf in enumerate(leaves) if leaf.limit is not None]
        stop = min([end, *(start + _end_of(split, leaves, which) for which in ending)])
        phase = Phase(len(self._phases), start, None if stop >= END else stop, recipe, leaves, split)
        self._phases.append(phase)
        self._asked.append(sources)
        self._leaves += len(leaves)
        if self._leaves > _MOST_LEAVES:
            raise InvalidInputError(
                f"the phases have more than {_MOST_LEAVES} sources together", hint="let fewer sources end one by one"
            )
        taken = dict(zip(phase.sources, phase.counts(min(stop, END)), strict=True))
        for leaf in leaves:
            self._reached[leaf.name] = _moved(self._reached[leaf.name], leaf, taken[leaf.name])
        done = {leaf.name for leaf in leaves if leaf.limit is not None and taken[leaf.name] >= leaf.limit}
        kept = {leaf.name for leaf in leaves}
        following = [
            replace(source, unseen_since=None) if source.name in done else source
            for source in sources
            if source.name in kept and (source.name not in done or source.unseen_since is not None)
        ]
        return stop, tuple(following)

    def _open(self, recipe: Recipe, sources: Sequence[AskedSource]) -> list[Leaf]:
        leaves: list[Leaf] = []
        for source in sources:
            try:
                leaf = self._leaf(recipe, source)
            except InvalidInputError as error:
                raise InvalidInputError(f"source {source.name!r}: {error.message}", hint=error.hint) from error
            if leaf is not None:
                leaves.append(leaf)
        return leaves

    def _leaf(self, recipe: Recipe, asked: AskedSource) -> Leaf | None:
        if asked.unseen_since is not None:
            return self._unseen(recipe, asked, asked.unseen_since)
        cut, geometry = self._cut(recipe, asked.source.version)
        begin = self._begin_of(asked.name, cut, geometry.samples)
        cap = asked.source.limit(geometry.samples)
        self._reached[asked.name] = _Reached(cut, begin, -(-begin // geometry.samples))
        if cap is not None and begin >= cap:
            return None
        feed = self._feed(asked.name, asked.source.version, geometry, recipe, None)
        return WholeLeaf(asked.name, asked.weight, begin, None if cap is None else cap - begin, feed)

    def _begin_of(self, name: str, cut: tuple[Any, ...], samples: int) -> int:
        reached = self._reached.get(name)
        if reached is None:
            return 0
        begin = reached.index if reached.cut == cut else reached.next_epoch * samples
        if begin >= END:
            raise InvalidInputError(f"its epoch {reached.next_epoch} of {samples} samples begins behind 2^62")
        return begin

    def _unseen(self, recipe: Recipe, asked: AskedSource, old: Version) -> UnseenLeaf:
        new = asked.source.version
        shape = recipe.packing, recipe.sequence_length, recipe.block_size, recipe.window
        reached, key = self._reached.get(asked.name), ("unseen", old.digest, new.digest, *shape)
        if reached is None:
            raise InvalidInputError("nothing of it has come yet", hint="leave out unseen_only")
        if reached.leaf is not None:
            if reached.cut != key:
                hint = self._when_come(asked.name)
                raise InvalidInputError("it is still delivering what was unseen before", hint=hint)
            tail, added = (self._again(feed) for feed in (reached.leaf.tail, reached.leaf.added))
            return replace(reached.leaf, weight=asked.weight, begin=reached.index, tail=tail, added=added)
        self._cut(recipe, new)  # its cap counts samples of the new version, which the phase may not get to
        cut, geometry = self._cut(recipe, old)
        if reached.cut != cut:
            raise InvalidInputError(
                "unseen_only needs the sequence_length, block_size, window and packing of the phase before",
                hint="change those in a phase of its own",
            )
        leaf = self._unseen_leaf(recipe, asked, old, geometry, reached.index)
        self._reached[asked.name] = _Reached(key, 0, leaf.epoch + 1, leaf)
        return leaf

    def _when_come(self, name: str) -> str:
        """Return the hint that tells when the unseen samples of a source have all come, if no other phase begins."""
        leaves = self._phases[-1].leaves
        split = Interleave(np.array([leaf.weight for leaf in leaves], np.uint64))
        ends = {leaf.name: _end_of(split, leaves, which) for which, leaf in enumerate(leaves)}
        if ends.get(name, END) == END or ends[name] > min(ends.values()):  # others end before, and it comes sooner
            return "pyfactory stream stats of the stream without this phase shows when that has come"
        return f"that has come at position {self._phases[-1].start + ends[name]}: begin the phase behind it"

    def _unseen_leaf(
        self, recipe: Recipe, asked: AskedSource, old: Version, geometry: Geometry, index: int
    ) -> UnseenLeaf:
        if recipe.packing != "concat":
            raise InvalidInputError(
                f"unseen_only needs packing 'concat', and this is {recipe.packing!r}",
                hint="move to the new version without unseen_only: it begins a new epoch",
            )
        new, rest = asked.source.version, index % geometry.samples
        unseen = self._compare(old, new)
        left = 0 if index and not rest else geometry.samples - rest
        epoch = (index - 1 if index and not rest else index) // geometry.samples
        tail = added = None
        if left:
            tail = self._feed(asked.name, old, geometry, recipe, unseen)
        if unseen.added.tokens > recipe.sequence_length:
            runs = Runs(unseen.added.firsts, unseen.added.lengths, recipe.sequence_length)
            added = self._feed(asked.name, new, runs, recipe, None, added=True)
        if tail is None and added is None:
            raise InvalidInputError(
                f"nothing is unseen: {new.asked} adds {unseen.added.tokens} tokens to {old.asked}, whose epoch is over",
                hint="leave out unseen_only, so that a new epoch begins",
            )
        return UnseenLeaf(asked.name, asked.weight, 0, index, tail, added, left, epoch)

    def _compare(self, old: Version, new: Version) -> Unseen:
        if (old.digest, new.digest) not in self._compared:
            self._compared[old.digest, new.digest] = compare(old, new)
        return self._compared[old.digest, new.digest]

    def _cut(self, recipe: Recipe, version: Version) -> tuple[tuple[Any, ...], Geometry]:
        key = _cut_key(version, recipe)
        if key not in self._cuts:
            self._cuts[key] = open_geometry(version, recipe)
        geometry, packing = self._cuts[key]
        # Other artifacts of the same rows change nothing.
        return (version.state.manifest, *key[2:], packing, recipe.block_size, recipe.window), geometry

    def _feed(
        self,
        name: str,
        version: Version,
        geometry: Geometry,
        recipe: Recipe,
        unseen: Unseen | None,
        added: bool = False,
    ) -> Feed:
        table = StreamTable(version, unseen.removed if unseen is not None and unseen.removed.tokens else None)
        key = (version.repository.url, version.table, version.digest, id(table.removed) if table.removed else None)
        number, _ = self._tables.setdefault(key, (len(self._tables), table))
        shape = {"block_size": recipe.block_size, "window": recipe.window}
        order = SourceOrder(geometry.samples, self._seed, name, added=added, **shape)
        feed = Feed(len(self._feeds), len(self._phases), name, version, number, geometry, order)
        self._feeds.append(feed)
        return feed

    def _again(self, feed: Feed | None) -> Feed | None:
        """Return a feed of the phase before as one of this phase."""
        if feed is not None:
            feed = replace(feed, number=len(self._feeds), phase=len(self._phases))
            self._feeds.append(feed)
        return feed


def _cut_key(version: Version, recipe: Recipe) -> tuple[Any, ...]:
    return (version.repository.url, version.digest, recipe.packing, recipe.sequence_length)


def _end_of(split: Interleave, leaves: Sequence[Leaf], which: int) -> int:
    """Return the first position, counted from the phase's, at which a source has nothing more to give."""
    leaf = leaves[which]
    if leaf.limit is None or (leaf.limit // leaf.weight + 1) * sum(each.weight for each in leaves) >= END:
        return END
    return int(split.join(np.array([which]), np.array([leaf.limit - 1]))[0]) + 1


def _moved(reached: _Reached, leaf: Leaf, taken: int) -> _Reached:
    index = reached.index + taken
    if isinstance(leaf, UnseenLeaf):
        return replace(reached, index=index, leaf=leaf)
    return replace(reached, index=index, next_epoch=-(-index // leaf.samples))
