"""dedup: the first of each text is kept, and only then."""

from __future__ import annotations

from pathlib import Path

import blake3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_tables import rows_of, run, text_table, write_job

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import CorruptError
from pyfactory.job.pieces import whole_pieces
from pyfactory.job.steps.dedup import VERSION, FirstWork, HashWork, _first_of_each
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

# By hand: of b, a, a | a, c the rows 0, 1 | 1 are first.
GOLDEN = {
    1: [
        b"pfselect" + (3).to_bytes(8, "little") + (2).to_bytes(8, "little") + bytes([0b011]),
        b"pfselect" + (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + bytes([0b10]),
    ]
}


def test_golden() -> None:
    """Fails when the output of the step changes without a new VERSION."""
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["b", "a", "a", "a", "c"], [3]).parts())
    hashes = [HashWork(piece).run(objects).objects[0] for piece in pieces]
    expected = [
        b"".join(blake3.blake3(text).digest(16) for text in texts) for texts in ([b"b", b"a", b"a"], [b"a", b"c"])
    ]
    assert [objects.get(digest) for digest in hashes] == expected
    result = FirstWork(pieces, hashes).run(objects)
    assert [objects.get(digest) for digest in result.objects] == GOLDEN[VERSION]
    assert result.numbers == (2, 1)


@pytest.mark.parametrize("workers", [1, 8])
def test_the_first_in_table_order_is_kept(tmp_path: Path, workers: int) -> None:
    objects = Objects(MemoryStore())
    texts = ["x", "y", "x", "", "z", "y", "", "x "]
    result = run(objects, write_job(tmp_path, "dedup: {method: exact}"), text_table(objects, texts, [2, 5]), workers)
    assert rows_of(objects, result) == [("id-0", "x"), ("id-1", "y"), ("id-3", ""), ("id-4", "z"), ("id-7", "x ")]
    assert result.reports[0].value() == {
        "step": "dedup",
        "version": VERSION,
        "rows_in": 8,
        "rows_out": 5,
        "dropped": {"duplicate": 3},
    }


def test_a_duplicate_of_a_row_that_was_dropped_is_kept(tmp_path: Path) -> None:
    """dedup sees what the steps before have left."""
    objects = Objects(MemoryStore())
    table = text_table(objects, ["bad", "good", "good", "bad"], [2])
    result = run(objects, write_job(tmp_path, "filter: {rejects: bad}", "dedup:"), table)
    assert rows_of(objects, result) == [("id-1", "good")]


def test_pieces_without_duplicates_keep_their_selection() -> None:
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["a", "b", "a"], [2]).parts())
    result = FirstWork(pieces, [HashWork(piece).run(objects).objects[0] for piece in pieces]).run(objects)
    assert result.objects[0] == NO_DIGEST and result.numbers == (2, 0)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_first_of_each(values: list[int]) -> None:
    # Equal upper halves and equal lower halves, so that both decide.
    hashes = np.array([(value // 2, value % 2) for value in values], "<u8").reshape(-1, 2)
    assert _first_of_each(hashes).tolist() == [value not in values[:row] for row, value in enumerate(values)]


def test_damaged_hashes_are_refused() -> None:
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, ["a", "b"]).parts())
    with pytest.raises(CorruptError, match="is not the hashes of 2 rows"):
        FirstWork(pieces, [objects.put(b"x" * 31)]).run(objects)
