"""write and shuffle: every row once, in the order promised, in shards of the size promised."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_tables import rows_of, run, shards_of, text_part, text_table, write_job, write_vocab_and_merges

from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.rng import derive_key
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.job import gather
from pyfactory.job.executors.open import open_executor
from pyfactory.job.gather import Gathering
from pyfactory.job.pieces import Piece, store_selection, whole_pieces
from pyfactory.job.steps import write
from pyfactory.job.steps.base import Bench, State
from pyfactory.job.steps.write import VERSION, CutWork, RowOrder, Write, WriteWork, cut_rows
from pyfactory.job.task import Result, memo_key
from pyfactory.native.reference import Bijection
from pyfactory.shard.layout import raw_schema, token_schema
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore

GOLDEN = {
    1: (
        "12f896777d3a7f7b325b35273882cdae7bbf98629502ca7c72dd694505058b53",
        "48d8c1b34ecf255a5e9aa678ec749d285d80e2b7630de2cdd91728056535c414",
    )
}


def shuffled(rows: list[object], seed: int) -> list[object]:
    """Shuffle as docs/stream-spec.md words the bijection."""
    if not rows:
        return []
    bijection = Bijection(len(rows), derive_key(seed, "job.shuffle", ""))
    return [rows[bijection.forward(row)] for row in range(len(rows))]


def written(objects: Objects, pieces: tuple[Piece, ...], schema: pa.Schema, target: int, seed: int | None) -> State:
    with open_executor(2) as executor:
        bench = Bench(objects, executor, lambda *_: None)
        return Write(target).run(bench, State(pieces, schema, seed=seed))[0]


def test_golden(tmp_path: Path) -> None:
    """Fails when the output of the step changes without a new VERSION. The order is that of the plain Python oracle."""
    objects = Objects(MemoryStore())
    texts = [f"text {row}" for row in range(5)]
    result = run(objects, write_job(tmp_path, "shuffle: {seed: 7}"), text_table(objects, texts, [2]))
    assert [text for _, text in rows_of(objects, result)] == ["text 0", "text 4", "text 1", "text 2", "text 3"]
    (part,) = result.parts
    assert (part.shard, part.side) == GOLDEN[VERSION]


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 257])
def test_shuffle_is_the_specified_bijection(tmp_path: Path, rows: int) -> None:
    objects = Objects(MemoryStore())
    table = text_table(objects, [str(row) for row in range(rows)], range(0, rows, 7))
    orders = []
    for seed in (0, 7, 2**64 - 1):
        result = run(objects, write_job(tmp_path, f"shuffle: {{seed: {seed}}}", target="100B"), table)
        orders.append(rows_of(objects, result))
        assert orders[-1] == shuffled([(f"id-{row}", str(row)) for row in range(rows)], seed)
    assert rows < 10 or orders[0] != orders[1] != orders[2]


def test_how_the_input_is_cut_does_not_matter(tmp_path: Path) -> None:
    """Same rows in other parts: same shards, whether or not they are shuffled."""
    texts = [f"{'x' * (row % 7)} {row}" for row in range(60)]
    for step in ("shuffle: {seed: 3}", "filter: {min_chars: 4}"):
        objects = Objects(MemoryStore())
        job = write_job(tmp_path, step, target="200B")
        results = [run(objects, job, text_table(objects, texts, cuts)) for cuts in ([], range(60), [1, 2, 50])]
        assert results[0].parts == results[1].parts == results[2].parts
        assert len(results[0].parts) > 3


# --- cutting


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 20))
def test_cuts(sizes: list[int], target: int) -> None:
    """Greedy: a shard exceeds the target only if it is one row, and never takes in the first row of the next."""
    bounds = cut_rows(np.array(sizes, np.int64), target)
    assert bounds[0] == 0 and bounds[-1] == len(sizes) and bounds == sorted(set(bounds))
    for start, stop in pairwise(bounds):
        assert sum(sizes[start:stop]) <= target or stop == start + 1
        assert stop == len(sizes) or sum(sizes[start : stop + 1]) > target


def test_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    """The content of a shard takes what `sizes` says, but for the frame of the file."""
    objects = Objects(MemoryStore())
    columns = {
        "n": pa.array([1, None, 3], pa.int16()),
        "b": pa.array([True, None, False]),
        "s": pa.array(["x", "yyy", None]),
        "w": pa.array([b"12", None, b""], pa.large_binary()),
        "l": pa.array([[1.5], [], [2.5, 3.5]], pa.large_list(pa.float64())),
        "t": pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")),
    }
    part = text_part(objects, ["a", "", "ccc"], ["1", "2", "3"], **columns)
    schema = pa.schema([("text", pa.large_string()), *((name, column.type) for name, column in columns.items())])
    stored = gather.open_content(objects, part).schema
    sizes = Gathering(objects, whole_pieces([part]), stored).sizes()
    assert len(schema) == len(stored)
    first = 8 + 1 + 2 + 1 + 4 + 1 + 8 + 2 + 8 + 8 + 8
    assert sizes.tolist() == [first, 8 + 2 + 1 + 4 + 3 + 8 + 8 + 8, 8 + 3 + 2 + 1 + 4 + 8 + 8 + 16 + 8]


def test_a_row_beyond_the_target_is_a_shard_of_its_own(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    texts = ["a", "b" * 1000, "c", "d", "e" * 100]
    result = run(objects, write_job(tmp_path, "dedup:", target="50B"), text_table(objects, texts))
    assert [[text for _, text in shard] for shard in shards_of(objects, result)] == [
        ["a"],
        [texts[1]],
        ["c", "d"],
        [texts[4]],
    ]


def test_a_longer_table_keeps_its_first_shards(tmp_path: Path) -> None:
    """In input order; so an append costs what it adds. Catches tasks that are named by the whole table."""
    objects = Objects(MemoryStore())
    texts = [f"text number {row}" for row in range(40)]
    job = write_job(tmp_path, "filter: {min_chars: 1}", target="100B")
    first = run(objects, job, text_table(objects, texts[:30], range(0, 30, 10)))
    longer = run(objects, job, text_table(objects, texts, range(0, 40, 10)))
    same = len(first.parts) - 1
    assert longer.parts[:same] == first.parts[:same]
    assert longer.reused >= same + 3
    assert longer.computed == 1 + 1 + len(longer.parts) - same


def test_what_follows_a_new_part_is_not_written_again(tmp_path: Path) -> None:
    """Rows are named by the pieces they lie in, not by their number in the table."""
    objects = Objects(MemoryStore())
    texts = [f"text number {row}" for row in range(10)]
    job = write_job(tmp_path, "filter: {min_chars: 1}", target="100B")
    first = run(objects, job, text_table(objects, texts, ids=[f"r{row}" for row in range(10)]))
    later = run(objects, job, text_table(objects, ["x" * 200, *texts], [1], ["new", *(f"r{row}" for row in range(10))]))
    assert later.parts[1:] == first.parts
    assert later.computed == 3, "a filter, the cuts, the new shard"


# --- gathering

documents = st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=6), min_size=1, max_size=12)


def token_pieces(
    objects: Objects, rows: list[list[int]], cuts: list[int], keep: list[bool], width: int
) -> tuple[Piece, ...]:
    """Store documents as parts with selections."""
    pieces = []
    for low, high in pairwise(sorted({0, len(rows), *cuts})):
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows[low:high]])]).astype(np.int64)
        values = np.array([token for row in rows[low:high] for token in row], f"u{width}")
        content = encode_shard(token_batch(values, offsets))
        side = make_side(pa.array([f"id-{row}" for row in range(low, high)], pa.large_string()))
        part = Part(objects.put(content), objects.put(side), high - low, len(values), content.size)
        mask = np.array(keep[low:high])
        whole = Piece(part, None, part.rows)
        if not mask.all():
            whole = Piece(part, store_selection(objects, whole, mask), int(mask.sum()))
        if whole.rows:
            pieces.append(whole)
    return tuple(pieces)


@settings(deadline=None, max_examples=150)
@given(documents, st.data())
def test_write_against_plain_python(rows: list[list[int]], data: st.DataObject) -> None:
    """Any documents, parts, selections, order, size: what is written is what a list comprehension says."""
    objects = Objects(MemoryStore())
    width = data.draw(st.sampled_from([2, 4]))
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    seed, target = data.draw(st.none() | st.integers(0, 3)), data.draw(st.integers(1, 120))
    pieces = token_pieces(objects, rows, cuts, keep, width)
    state = written(objects, pieces, token_schema(width), target, seed)
    expected: list[object] = [(f"id-{row}", tokens) for row, tokens in enumerate(rows) if keep[row]]
    if seed is not None:
        expected = shuffled(expected, seed)
    bounds = cut_rows(np.array([8 + width * len(tokens) for _, tokens in expected], np.int64), target)  # type: ignore[misc]
    found = []
    for piece in state.pieces:
        content = gather.open_content(objects, piece.part)
        ids = gather.open_ids(objects, piece.part).ids.to_pylist()
        found.append(list(zip(ids, content.column(0).to_pylist(), strict=True)))
        assert content.schema == token_schema(width)
        assert piece.part.tokens == sum(map(len, content.column(0).to_pylist()))
    assert found == [expected[low:high] for low, high in pairwise(bounds)]


def test_columns_and_nulls_travel_with_their_rows(tmp_path: Path) -> None:
    objects = Objects(LocalStore(tmp_path / "store", create=True))
    parts = []
    for start in (0, 4):
        names = [f"id-{row}" for row in range(start, start + 4)]
        score = pa.array([row if row % 3 else None for row in range(start, start + 4)], pa.int32())
        tags = pa.array([[row, row] if row % 2 else None for row in range(start, start + 4)], pa.large_list(pa.int8()))
        parts.append(text_part(objects, [f"t{row}" for row in range(start, start + 4)], names, score=score, tags=tags))
    table = Manifest(objects, write_manifest(objects, new_batch(parts, 1)))
    job = write_job(tmp_path, "filter: {rejects: 't[25]'}", "shuffle: {seed: 1}", target="60B")
    result = run(objects, job, table)
    rows = [row for part in result.parts for row in gather.open_content(objects, part).to_pylist()]
    assert sorted(rows, key=lambda row: row["text"]) == [
        {"text": f"t{row}", "score": row if row % 3 else None, "tags": [row, row] if row % 2 else None}
        for row in (0, 1, 3, 4, 6, 7)
    ]
    assert [row["text"] for row in rows] != sorted(row["text"] for row in rows)
    assert result.schema.names == ["text", "score", "tags"]


@pytest.mark.parametrize("capacity", [1, 2])
def test_few_parts_open_at_a_time(monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    monkeypatch.setattr(gather, "_LOADED_PARTS", capacity)
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, [str(row) for row in range(20)], range(20)).parts())
    gathering = Gathering(objects, pieces, gather.open_content(objects, pieces[0].part).schema)
    content, ids = gathering.take(np.arange(19, -1, -1))
    assert content.column(0).to_pylist() == [str(row) for row in range(19, -1, -1)]
    assert ids[0].as_py() == "id-19"
    assert len(gathering._opened) <= capacity


def test_parts_of_other_columns_are_refused() -> None:
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["a"]).parts())
    with pytest.raises(CorruptError, match="unlike the others"):
        Gathering(objects, pieces, token_schema(2)).sizes()


def test_remembered_cuts_that_cannot_be_are_refused() -> None:
    """A mark that lies must not lead to rows that are written twice or not at all."""
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["a", "b", "c"]).parts())
    for numbers in ((0, 2), (0, 2, 2, 3), (1, 3), (0, 4), ()):
        with pytest.raises(CorruptError, match="do not rise from 0 to 3"):
            write._checked(numbers, 3)
    assert write._checked((0, 1, 3), 3) == [0, 1, 3]
    assert len(pieces) == 1


def names_of(make: Callable[[], tuple[CutWork, WriteWork]]) -> set[Digest]:
    return {work.task().name() for work in make()}


def test_tasks_are_named_by_all_that_decides_them() -> None:
    objects = Objects(MemoryStore())
    tables = [text_table(objects, ["a", "b", "c"], ids=ids) for ids in (["x", "y", "z"], ["x", "y", "w"])]
    names: set[Digest] = set()
    variants = [(0, None, 100, 0, 2), (0, 1, 100, 0, 2), (0, 2, 100, 0, 2), (0, None, 101, 0, 3), (1, None, 100, 0, 2)]
    variants += [(1, 1, 100, 0, 2)]
    for table, seed, target, start, stop in variants:
        pieces = whole_pieces(tables[table].parts())
        gathering = Gathering(objects, pieces, raw_schema())
        order, digest = RowOrder(3, seed), write.pieces_digest(pieces)
        names.add(CutWork(digest, gathering, order, target).task().name())
        names.add(WriteWork(digest, gathering, order, start, stop).task().name())
    assert len(names) == 2 * len(variants)


def test_nothing_to_write(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    write_vocab_and_merges(tmp_path)
    table = text_table(objects, ["a", "b"])
    for steps in (
        ["filter: {min_chars: 5}"],
        ["filter: {min_chars: 5}", "dedup:", "shuffle: {seed: 1}"],
        ["filter: {min_chars: 5}", "tokenize: {vocab: vocab.json, merges: merges.txt}", "shuffle: {seed: 1}"],
    ):
        result = run(objects, write_job(tmp_path, *steps), table)
        assert result.parts == []
        assert result.reports[-1].rows_out == 0


def test_a_token_table_is_no_input(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    pieces = token_pieces(objects, [[1, 2]], [], [True], 2)
    table = Manifest(objects, write_manifest(objects, new_batch([pieces[0].part], 1)))
    with pytest.raises(InvalidInputError, match="the input raw holds tokens, and a job starts from text"):
        run(objects, write_job(tmp_path, "shuffle: {seed: 1}"), table)


def test_marks_name_what_was_written(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["a", "b"]).parts())
    gathering = Gathering(objects, pieces, gather.open_content(objects, pieces[0].part).schema)
    work = WriteWork(digest_of(b""), gathering, RowOrder(2, None), 0, 2)
    result = work.run(objects)
    assert isinstance(result, Result) and objects.exists(result.parts[0].shard)
    assert objects.store.size(memo_key(work.task().name())) is None, "marking is not the work's business"
