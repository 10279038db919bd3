"""What measures cost, that nothing kept is trusted, and that merging is exact."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gate_tables import batch_of, grown, part_of, state_of, table
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Buffer, Digest
from pyfactory.errors import CorruptError, ReadOnlyError
from pyfactory.repo.gates.lengths import LengthHistogram
from pyfactory.repo.gates.nulls import Absent
from pyfactory.repo.gates.run import judge
from pyfactory.repo.gates.sample import ContentSample
from pyfactory.repo.gates.sketch import Sketches, sketch_key
from pyfactory.repo.objects import TableState, Tree
from pyfactory.repo.rules import GateRule
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Manifest
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.open import open_store
from pyfactory.store.wrap import Counted, Faulty

RULES = [
    GateRule("drift", "*", {"psi": "99", "measures": ["lengths"]}),  # one measure, of both sides
    GateRule("duplicates", "*", {"max_share": "1", "max_known": "1"}),  # one measure of the target, digests of the rest
    GateRule("nulls", "*", {"max_blank": "1"}),  # one measure, of the added rows
    GateRule("lengths", "*", {"max_outside": "1"}),  # one measure, of the added rows
]


class Watched:
    """A repository of one table, over a store that counts its calls and tells which keys are read."""

    def __init__(self, shards: int) -> None:
        self.reads: Counter[str] = Counter()
        self.counted = Counted(MemoryStore())
        self.objects = Objects(Faulty(self.counted, before=self._note))
        self.rows = [[f"text {shard}-{row}" for row in range(3)] for shard in range(shards)]
        self.state = table(self.objects, *self.rows)

    def _note(self, number: int, method: str, key: str) -> None:
        if method == "get":
            self.reads[key] += 1

    def append(self, label: str, rules: Sequence[GateRule] = RULES) -> tuple[int, int, int]:
        """Judge one more shard, then take it: reads of that shard, of other shards, and all reads."""
        part = part_of(self.objects, [f"{label} {row}" for row in range(3)])
        old = {self.objects.key(shard.shard) for shard in Manifest(self.objects, self.state.manifest).parts()}
        after = grown(self.objects, self.state, [part], Manifest(self.objects, self.state.manifest).last_generation + 1)
        self.reads.clear()
        self.counted.calls.clear()
        assert all(verdict.passed for verdict in judge(self.objects, rules, tree(self.state), tree(after)))
        self.state = after
        others = sum(count for key, count in self.reads.items() if key in old)
        assert self.counted.calls["get"] == sum(self.reads.values())
        return self.reads[self.objects.key(part.shard)], others, self.counted.calls["get"]


def tree(state: TableState) -> Tree:
    return Tree({"t": state})


def test_a_gate_costs_the_changed_shards_only() -> None:
    """Mutants: totals are not kept; the total of the new table is not carried over; a total ignores its neighbour."""
    costs = []
    for shards in (12, 60):
        watched = Watched(shards)
        _, others, _ = watched.append("first")
        assert others == 2 * shards  # the two measures of the target's rows
        later = [watched.append(label) for label in ("second", "third")]
        # drift and duplicates (digests of the added, sample of what is carried over), nulls, lengths: once for each
        assert [(own, others) for own, others, _ in later] == [(5, 0), (5, 0)]
        costs.append([reads for _, _, reads in later])
    assert costs[0] == costs[1]  # whatever is there


@pytest.mark.parametrize("rule", [RULES[0], RULES[2], RULES[3]])
def test_each_measure_reads_an_added_shard_once(rule: GateRule) -> None:
    """Mutant: a gate measures the shard for its counts and again for its evidence."""
    watched = Watched(5)
    watched.append("first", [rule])
    assert watched.append("second", [rule])[:2] == (1, 0)


def test_nothing_is_measured_twice() -> None:
    watched = Watched(4)
    sketches = Sketches(watched.objects)
    first = sketches.total(LengthHistogram(), watched.state)
    watched.reads.clear()
    assert Sketches(watched.objects).total(LengthHistogram(), watched.state) == first
    assert [key for key in watched.reads if key.startswith("objects/")] == []


@given(st.data())
def test_totals_derived_from_a_neighbour_are_those_made_anew(data: st.DataObject) -> None:
    """Mutants: removed shards are not subtracted; the sample of a table is subtracted as if it were a count."""
    objects = Objects(MemoryStore())
    texts = st.lists(st.sampled_from(["", "a", "bb", "cccc", "dddd dddd"]), min_size=1, max_size=4)
    parts = [part_of(objects, rows) for rows in data.draw(st.lists(texts, min_size=1, max_size=6))]
    stays = [data.draw(st.booleans()) for _ in parts]
    kept = [part for part, stay in zip(parts, stays, strict=True) if stay]
    gone = [part for part, stay in zip(parts, stays, strict=True) if not stay]
    new = [part_of(objects, rows) for rows in data.draw(st.lists(texts, max_size=3))]
    before, after = state_of(objects, parts, raw_schema()), state_of(objects, [*kept, *new], raw_schema())
    sketches = Sketches(objects, threads=1)
    for measure in (LengthHistogram(), Absent(), ContentSample(2)):
        sketches.total(measure, before)
        sketches.relate(after, before, new, gone)
        anew = Sketches(Objects(objects.store), threads=1, keep=False)
        assert sketches.total(measure, after) == anew.total(measure, [*kept, *new])


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b"null",
    b'{"counts":{},"rows":{}}',
    b'{"kind":"sketch","v":2}',
    b'{"kind":"sketch","measure":"lengths-1","of":1,"redacted":"","v":1,"value":{"counts":{},"rows":{}}}',
]


def forged(key: str, measure: str, value: Any, of: str | None = None) -> bytes:
    of = "".join(key.split("/")[-2:]) if of is None else of
    return encode({"kind": "sketch", "measure": measure, "of": of, "redacted": "", "v": 1, "value": value})


@pytest.mark.parametrize("total", [False, True])
def test_hostile_sketches_are_made_anew(total: bool) -> None:
    """Mutants: a value is taken unchecked; a value of another shard or measure is; a bad one is never replaced."""
    objects = Objects(MemoryStore())
    measure = LengthHistogram()
    state = table(objects, ["a", "bb"], ["cccc"])
    part = next(Manifest(objects, state.manifest).parts())
    key = sketch_key(measure.name, state.manifest if total else part.shard, total=total)
    right = Sketches(objects).total(measure, state) if total else Sketches(objects).of(measure, part)
    sound = objects.store.get(key)
    values: list[Any] = [
        {"counts": {"1": -1}, "rows": {}},
        {"counts": {"1": 0}, "rows": {}},
        {"counts": {"1": "1"}, "rows": {}},
        {"counts": {"1": 2**63}, "rows": {}},
        {"counts": {"1": True}, "rows": {}},
        {"counts": {}, "rows": {"short": [5]}},
        {"counts": {}, "rows": {"short": [-1]}},
        {"counts": {}, "rows": {"short": [1, 0]}},
        {"counts": {}, "rows": {"short": []}},
        {"counts": [], "rows": {}},
        {"counts": {}},
    ]
    bad = [*HOSTILE, *(forged(key, measure.name, value) for value in values)]
    bad += [forged(key, "lengths-2", right), forged(key, measure.name, right, of="0" * 64)]
    for content in bad:
        objects.store.replace(key, content)
        fresh = Sketches(objects)
        assert (fresh.total(measure, state) if total else fresh.of(measure, part)) == right, content[:80]
        assert objects.store.get(key) == sound


VALUES = st.recursive(
    st.none() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
)


@given(st.binary(max_size=200) | VALUES.map(encode))
def test_no_stored_bytes_are_more_than_advice(content: bytes) -> None:
    objects = Objects(MemoryStore())
    part = part_of(objects, ["a", "bb"])
    for measure in (LengthHistogram(), ContentSample(16)):
        objects.store.create(sketch_key(measure.name, part.shard), content)
        assert Sketches(objects).of(measure, part) == measure.measure(batch_of(["a", "bb"]))


def test_a_redacted_shard_has_the_value_of_its_replacement() -> None:
    """Mutants: the value stays under the digest of the old shard; an old total is believed after a redaction."""
    objects = Objects(MemoryStore())
    state = table(objects, ["secret text", "bb"], ["cccc"])
    part = next(Manifest(objects, state.manifest).parts())
    blank = part_of(objects, ["", "bb"])
    measure = LengthHistogram()
    whole = Sketches(objects).total(measure, state)
    objects.redact({part.shard: blank.shard}, {})
    assert Sketches(objects).of(measure, part)["counts"] == {"0": 1, "2": 1}
    assert Sketches(objects).total(measure, state)["counts"] == {"0": 1, "2": 1, "3": 1} != whole["counts"]
    objects.store.delete(sketch_key(measure.name, part.shard))
    Sketches(objects).total(measure, state)
    assert objects.store.size(sketch_key(measure.name, part.shard)) is None


class ReadOnly(MemoryStore):
    """A store that takes no sketches."""

    def create(self, key: str, content: Buffer) -> bool:
        if key.startswith("sketch/"):
            raise ReadOnlyError(f"{key} may not be written")
        return super().create(key, content)


def test_a_store_that_may_not_be_written_is_only_slower() -> None:
    objects = Objects(ReadOnly())
    state = table(objects, ["a"], ["bb"], ["cc"])
    assert Sketches(objects).total(LengthHistogram(), state)["counts"] == {"1": 1, "2": 2}


def test_without_keep_nothing_is_written() -> None:
    """Mutant: totals are written all the same."""
    objects = Objects(MemoryStore())
    before, after = table(objects, ["a"]), table(objects, ["a"], ["bb"])
    stored = [*objects.store.list("")]
    judge(objects, RULES, tree(before), tree(after), keep=False)
    assert [*objects.store.list("")] == stored


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_missing_or_damaged_shard_is_corrupt(on_disk: bool, tmp_path: Path) -> None:
    """Mutant: a shard is measured without checking its bytes against its digest, which files alone would allow."""
    objects = Objects(open_store(tmp_path / "store", create=True) if on_disk else MemoryStore())
    part, other = part_of(objects, ["a"]), part_of(objects, ["b"])
    objects.store.replace(objects.key(part.shard), objects.get(other.shard))
    with pytest.raises(CorruptError):
        Sketches(objects).of(LengthHistogram(), part)
    objects.store.delete(objects.key(part.shard))
    with pytest.raises(CorruptError, match="missing"):
        Sketches(objects).of(LengthHistogram(), part)


@pytest.mark.parametrize("threads", [1, 4])
def test_no_more_shards_are_in_memory_than_threads(threads: int) -> None:
    """Mutant: all shards are handed to the pool at once, whose results then wait in memory."""
    lock, active, most, drawn = threading.Lock(), 0, 0, 0
    together = threading.Barrier(threads)

    def items() -> Any:
        nonlocal drawn
        for number in range(8 * threads):
            drawn += 1
            yield number

    def work(number: int) -> int:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        together.wait()  # so many really do work side by side
        with lock:
            active -= 1
        return number

    received = []
    for result in Sketches(Objects(MemoryStore()), threads=threads).each(work, items()):
        received.append(result)
        assert drawn <= len(received) + threads
    assert received == [*range(8 * threads)]
    assert most == threads


def test_sketches_are_stored_as_the_format_says() -> None:
    objects = Objects(MemoryStore())
    state = table(objects, ["a", "bbb", ""])
    (part,) = Manifest(objects, state.manifest).parts()
    Sketches(objects).total(LengthHistogram(), state)
    value = {"counts": {"0": 1, "1": 1, "2": 1}, "rows": {}}
    for key, of in (
        (f"sketch/lengths-1/{part.shard[:2]}/{part.shard[2:]}", part.shard),
        (f"sketch/lengths-1/total/{state.manifest[:2]}/{state.manifest[2:]}", Digest(state.manifest)),
    ):
        stored = {"kind": "sketch", "measure": "lengths-1", "of": of, "redacted": "", "v": 1, "value": value}
        assert decode(objects.store.get(key), key) == stored
