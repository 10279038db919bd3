"""Sections 6 and 7 of docs/stream-spec.md: from a position to a source and its sample through all phases, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from arithmetic import Order, counts, join, split, two_way, two_way_back, whole

order_of = cache(Order)


@dataclass(frozen=True)
class Source:
    """What a phase says of a source. `version` and `packing_table` are names: only whether two are equal counts."""

    name: str
    version: str
    samples: int  # of an epoch: n
    geometry: tuple[str, int, int, int]  # packing, sequence length, block size, window
    weight: str = "1"
    cap: int | None = None
    packing_table: str = ""
    unseen_since: str = ""  # the old version, if only what is unseen is delivered
    added: int = 0  # samples of the added tokens, if so

    def runs_on(self, other: Source) -> bool:
        """Whether indexes go on where the other's ended."""
        mine, others = ((s.version, s.packing_table, s.geometry, s.unseen_since) for s in (self, other))
        return mine == others


@dataclass(frozen=True)
class Asked:
    """A phase as somebody asked for it."""

    at: int
    sources: list[Source]


@dataclass(frozen=True)
class Sample:
    """A sample of a source: `side` is "added" or "old" where only what is unseen is delivered, else ""."""

    source: str
    version: str
    side: str
    epoch: int
    sample: int


@dataclass(frozen=True)
class Leaf:
    """A source in a phase: its first sample there has index, or (in a phase of what is unseen) number `begin`."""

    source: Source
    begin: int
    old: Source | None = None  # the old version, if only what is unseen is delivered,
    x: int = 0  # the index that would come next in it,
    epoch: int = 0  # its epoch e
    tail: int = 0  # and what it has left

    @property
    def limit(self) -> int | None:
        """The index, or number, before which the source leaves this phase."""
        return self.source.cap if self.old is None else self.tail + self.source.added

    def order(self, seed: int, side: str) -> Order:
        source = self.old if side == "old" and self.old else self.source
        n, purpose = (source.added, "added ") if side == "added" else (source.samples, "")
        return order_of(n, *source.geometry[2:], source.name, seed, purpose)

    def sample(self, seed: int, number: int) -> Sample:
        """The sample of an index, or number."""
        name, version = self.source.name, self.source.version
        if self.old is None:
            return Sample(name, version, "", number // self.source.samples, self.order(seed, "").sample(number))
        side, i = two_way(number, self.tail, self.tail + self.source.added)
        if side == 0:
            index = self.x + i
            return Sample(
                name, self.old.version, "old", index // self.old.samples, self.order(seed, "old").sample(index)
            )
        k = self.order(seed, "added").sample(self.epoch * self.source.added + i)
        return Sample(name, version, "added", self.epoch, k)

    def number(self, seed: int, sample: Sample) -> int | None:
        """Back: the index, or number, of a sample under this recipe, None if it has none here."""
        if (self.old is None) != (sample.side == ""):
            return None
        if sample.sample >= (self.source.added if sample.side == "added" else (self.old or self.source).samples):
            return None
        index = self.order(seed, sample.side).index(sample.epoch, sample.sample)
        if self.old is None:
            return index if sample.version == self.source.version else None
        if sample.version != (self.old if sample.side == "old" else self.source).version:
            return None
        if sample.side == "old":
            i, left, has = index - self.x, 0, self.tail
        else:
            i, left, has = index - self.epoch * self.source.added, 1, self.source.added
        return two_way_back(left, i, self.tail, self.tail + self.source.added) if 0 <= i < has else None


def begin(source: Source, last: Leaf | None) -> Leaf:
    """Sections 6 and 7: how a source begins a phase; `last` is how it left the last one that had it, at its `begin`."""
    if last is None:
        if source.unseen_since:
            raise ValueError(f"{source.name} has no old version that it could move from")
        return Leaf(source, 0)
    x, n = last.begin, last.source.samples
    if source.runs_on(last.source):
        return replace(last, source=source)
    if source.unseen_since:
        if last.old or (last.source.version, last.source.geometry) != (source.unseen_since, source.geometry):
            raise ValueError(f"{source.name} was not at its old version, with this recipe")
        ended = x > 0 and x % n == 0
        leaf = Leaf(source, 0, last.source, x, x // n - ended, 0 if ended else n - x % n)
        if leaf.limit == 0:
            raise ValueError(f"{source.name} has nothing unseen")
        return leaf
    epochs = last.epoch + 1 if last.old else -(-x // n)
    return Leaf(source, epochs * source.samples)


class Phase:
    """A phase: its first position, the phase that was asked for, and its sources in the order of section 6."""

    def __init__(self, start: int, asked: int, leaves: list[Leaf]) -> None:
        self.start, self.asked = start, asked
        weights = whole([leaf.source.weight for leaf in leaves])
        kept = sorted(
            (pair for pair in zip(leaves, weights, strict=True) if pair[1]),
            key=lambda pair: pair[0].source.name.encode(),
        )
        self.leaves, self.weights = [leaf for leaf, _ in kept], [weight for _, weight in kept]

    def left(self, position: int) -> list[Leaf]:
        """The sources as they stand at a position: `begin` is what would come next."""
        done = counts(self.weights, position - self.start)
        return [replace(leaf, begin=leaf.begin + n) for leaf, n in zip(self.leaves, done, strict=True)]

    def first_to_leave(self) -> tuple[int, str] | None:
        """The smallest position at which a source has reached its limit, and its name."""
        found = []
        for i, leaf in enumerate(self.leaves):
            if leaf.limit is not None:
                done = leaf.limit - leaf.begin
                at = self.start + join(self.weights, i, done - 1) + 1 if done > 0 else self.start
                found.append((at, leaf.source.name))
        return min(found, default=None)


class Chain:
    """All phases of a stream: those that were asked for, and those that follow from them."""

    def __init__(self, seed: int, asked: list[Asked]) -> None:
        self.seed, self.phases, self.end = seed, [], None
        last: dict[str, Leaf] = {}
        for number, phase in enumerate(asked):
            if number and (phase.at < self.phases[-1].start or (self.end is not None and phase.at > self.end)):
                raise ValueError(f"phase {number} begins before another, or behind the end")
            if number:
                last |= {leaf.source.name: leaf for leaf in self.phases[-1].left(phase.at)} if self.end is None else {}
            self.end = None
            self.phases.append(
                Phase(phase.at, number, [begin(s, last.get(s.name)) for s in phase.sources if whole_of(s)])
            )
            self.follow(last, asked[number + 1].at if number + 1 < len(asked) else None)

    def follow(self, last: dict[str, Leaf], stop: int | None) -> None:
        """Add the phases that follow from the newest one, as far as they begin at or before `stop`."""
        while (leaving := self.phases[-1].first_to_leave()) and (stop is None or leaving[0] <= stop):
            at, name = leaving
            phase = self.phases[-1]
            left = phase.left(at)
            last |= {leaf.source.name: leaf for leaf in left}
            sources = [leaf.source for leaf in left]
            for i, leaf in enumerate(left):
                if leaf.source.name == name:
                    sources[i : i + 1] = [replace(leaf.source, unseen_since="", added=0)] if leaf.old else []
            if not sources:
                self.end = at
                return
            self.phases.append(Phase(at, phase.asked, [begin(source, last[source.name]) for source in sources]))

    def at(self, position: int) -> tuple[int, Sample]:
        """The phase and the sample of a position."""
        if self.end is not None and position >= self.end:
            raise ValueError(f"the stream ends at {self.end}")
        number = max(i for i, phase in enumerate(self.phases) if phase.start <= position)
        phase = self.phases[number]
        i, n = split(phase.weights, position - phase.start)
        return number, phase.leaves[i].sample(self.seed, phase.leaves[i].begin + n)

    def position(self, number: int, sample: Sample) -> int | None:
        """Back: where a phase delivers a sample, None where it does not."""
        phase = self.phases[number]
        stop = self.phases[number + 1].start if number + 1 < len(self.phases) else self.end
        for i, leaf in enumerate(phase.leaves):
            found = leaf.number(self.seed, sample) if leaf.source.name == sample.source else None
            if found is not None and found >= leaf.begin:
                position = phase.start + join(phase.weights, i, found - leaf.begin)
                return position if stop is None or position < stop else None
        return None


def whole_of(source: Source) -> bool:
    """Whether a source has a weight above 0: the others are left out."""
    return float(source.weight) > 0
