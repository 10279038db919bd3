"""Filling the arrays of a batch from shards, against reference.batch_of; and what is refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.native import IGNORE, ShardSet
from pyfactory.native.reference import batch_of

ARRAYS: dict[str, type[np.generic]] = {
    "input_ids": np.int64,
    "targets": np.int64,
    "position_ids": np.int64,
    "doc_ids": np.int32,
}
UNWRITTEN = -7


@dataclass
class Table:
    """A table of tokens, its documents, and where its shards begin and end."""

    tokens: np.ndarray
    bounds: list[int]
    cuts: list[int]

    def shards(self) -> ShardSet:
        found = ShardSet()
        for i, (start, stop) in enumerate(pairwise(self.cuts)):
            documents = [bound - start for bound in self.bounds if start <= bound <= stop]
            found.add(100 + i, self.tokens[start:stop].copy(), np.array(documents))
        return found

    def pieces(self, firsts: list[int], length: int) -> list[np.ndarray]:
        """shard, first, count, offsets of the runs of length + 1 tokens."""
        return self.places([[(first, length + 1)] for first in firsts])

    def places(self, samples: list[list[tuple[int, int]]]) -> list[np.ndarray]:
        """shard, first, count, offsets of samples of pieces (first, number of tokens) of the table."""
        found, offsets = [], [0]
        for pieces in samples:
            for first, count in pieces:
                for i, (start, stop) in enumerate(pairwise(self.cuts)):
                    low, high = max(first, start), min(first + count, stop)
                    found += [(100 + i, low - start, high - low)] if low < high else []
            offsets.append(len(found))
        return [*np.array(found, np.int64).T.copy(), np.array(offsets)]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Random documents, some of one token, cut into shards at random documents."""
    lengths = draw(st.lists(st.one_of(st.just(1), st.integers(1, 12), st.integers(1, 80)), min_size=1, max_size=30))
    lengths[-1] += 1  # two tokens at least
    bounds = [0, *np.cumsum(lengths).tolist()]
    width = draw(st.sampled_from([np.uint8, np.uint16, np.uint32]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    tokens = random.integers(0, np.iinfo(width).max, bounds[-1], width, endpoint=True)
    tokens[random.integers(0, len(tokens))] = np.iinfo(width).max
    inner = draw(st.sets(st.sampled_from(bounds[1:-1]))) if len(bounds) > 2 else set()
    return Table(tokens, bounds, [0, *sorted(inner), bounds[-1]])


@st.composite
def samples_of(draw: st.DrawFn, table: Table, length: int) -> list[list[tuple[int, int]]]:
    """Samples of 1 to length + 1 tokens: one run each, or pieces anywhere, also such as touch."""
    total, samples = len(table.tokens), []
    for _ in range(draw(st.integers(1, 4))):
        room, pieces = draw(st.one_of(st.just(length + 1), st.integers(1, length + 1))), []
        while room:
            near = [bound for bound in table.bounds if bound < total]
            touching = [sum(piece) for piece in pieces[-1:] if sum(piece) < total]
            first = draw(
                st.one_of(st.integers(0, total - 1), *(st.sampled_from(each) for each in (near, touching) if each))
            )
            count = min(room, total - first, draw(st.one_of(st.just(room), st.integers(1, room))))
            pieces.append((first, count))
            room = 0 if len(pieces) == 6 else room - count
        samples.append(pieces)
    return samples


def empty(names: set[str], samples: int, length: int) -> dict[str, np.ndarray]:
    return {name: np.full((samples, length), UNWRITTEN, ARRAYS[name]) for name in names}


@given(st.data(), tables(), st.sets(st.sampled_from([*ARRAYS, "cu_seqlens"])))
def test_fill_is_the_reference(drawn: st.DataObject, table: Table, fields: set[str]) -> None:
    """Any samples of any pieces, any cut into shards, any recipe, any choice of outputs.

    Catches signed widening, a document start on a shard's first token that is overlooked, a piece that does not follow
    the one before it taken for more of its document, the target behind a sample's end that is not ignored, targets
    shifted at the seam between pieces, padding with a target, and outputs that depend on one another.
    """
    length = drawn.draw(st.integers(1, 90))
    samples = drawn.draw(samples_of(table, length))
    recipe: dict[str, Any] = {"across": drawn.draw(st.booleans()), "fill": drawn.draw(st.sampled_from([0, 7, 2**40]))}
    template = drawn.draw(templates(table, samples))
    outputs = empty(fields & set(ARRAYS), len(samples), length)
    cu_seqlens, longest = table.shards().fill(
        *table.places(samples),
        length,
        cu_seqlens="cu_seqlens" in fields,
        template=None if template is None else np.array(template, np.int64),
        **recipe,
        **outputs,
    )
    expected = batch_of(table.tokens, set(table.bounds), samples, length, template=template, **recipe)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert (cu_seqlens is not None) == ("cu_seqlens" in fields)
    if cu_seqlens is not None:
        assert cu_seqlens.dtype == np.int32
        assert cu_seqlens.tolist() == expected["cu_seqlens"].tolist()
    if fields - {"input_ids"}:
        assert longest == expected["max_seqlen"]


@st.composite
def templates(draw: st.DrawFn, table: Table, samples: list[list[tuple[int, int]]]) -> list[int] | None:
    """No template, one that is in a sample, or one that is in none."""
    if draw(st.booleans()):
        return None
    tokens = [int(table.tokens[first + i]) for first, count in draw(st.sampled_from(samples)) for i in range(count)]
    start = draw(st.integers(0, len(tokens) - 1))
    return tokens[start : start + draw(st.integers(1, 4))] + draw(st.sampled_from([[], [2**33]]))


def test_by_hand() -> None:
    """Documents of 3, 1 and 4 tokens in two shards: so that the reference is held to something as well."""
    table = Table(np.arange(10, 18, dtype=np.uint8), [0, 3, 4, 8], [0, 4, 8])
    outputs = empty(set(ARRAYS), 2, 3)
    cu_seqlens, longest = table.shards().fill(*table.pieces([1, 4], 3), 3, cu_seqlens=True, **outputs)
    assert outputs["input_ids"].tolist() == [[11, 12, 13], [14, 15, 16]]
    assert outputs["targets"].tolist() == [[12, IGNORE, IGNORE], [15, 16, 17]]
    assert outputs["position_ids"].tolist() == [[0, 1, 0], [0, 1, 2]]
    assert outputs["doc_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert cu_seqlens is not None and cu_seqlens.tolist() == [0, 2, 3, 6]
    assert longest == 3 and IGNORE == -100


def test_flat_and_shaped_outputs_are_the_same() -> None:
    table = Table(np.arange(50, dtype=np.uint16), [0, 7, 50], [0, 7, 50])
    shaped, flat = np.empty((3, 12), np.int64), np.empty(36, np.int64)
    for array in (shaped, flat):
        table.shards().fill(*table.pieces([0, 12, 24], 12), 12, input_ids=array)
    assert shaped.ravel().tolist() == flat.tolist() == list(range(36))


def test_shards_are_held_until_they_are_removed() -> None:
    """Catches a set that keeps the address of an array but not the array: it would read freed memory."""
    shards, tokens, documents = ShardSet(), np.arange(9, dtype=np.uint8), np.array([0, 9])
    watched = weakref.ref(tokens), weakref.ref(documents)
    shards.add(3, tokens, documents)
    del tokens, documents
    gc.collect()
    assert all(ref() is not None for ref in watched) and 3 in shards
    shards.remove(3)
    shards.remove(3)  # gone already: fine
    assert all(ref() is None for ref in watched) and 3 not in shards


def test_a_shard_can_be_replaced() -> None:
    table, out = Table(np.zeros(9, np.uint8), [0, 9], [0, 9]), np.empty(8, np.int64)
    shards = table.shards()
    shards.add(100, np.arange(9, dtype=np.uint32), np.array([0, 9]))
    shards.fill(*table.pieces([0], 8), 8, input_ids=out)
    assert out.tolist() == list(range(8))


TABLE = Table(np.arange(20, dtype=np.uint8), [0, 5, 20], [0, 5, 20])
# Shard 100 has 5 tokens, shard 101 has 15; the good call has two samples of 4 + 1 tokens, the second in two pieces.
GOOD = {"shard": [101, 100, 101], "first": [0, 3, 0], "count": [5, 2, 3], "offsets": [0, 1, 3]}


def call(length: int = 4, **changes: Any) -> dict[str, np.ndarray]:
    outputs = empty(set(ARRAYS), 2, 4) | {k: v for k, v in changes.items() if k in ARRAYS}
    places = [np.array(changes.get(name, good), np.int64) for name, good in GOOD.items()]
    try:
        TABLE.shards().fill(*places, length, cu_seqlens=True, **outputs)
    except BaseException:
        assert all((np.asarray(array) == UNWRITTEN).all() for array in outputs.values()), (
            "written to, in spite of the error"
        )
        raise
    return outputs


def test_the_good_call_is_good() -> None:
    assert call()["input_ids"].tolist() == [[5, 6, 7, 8], [3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("error", "match", "changes"),
    [
        (KeyError, "not open", {"shard": [101, 99, 101]}),
        (KeyError, "not open", {"shard": [-1, 100, 101]}),
        (IndexError, "outside", {"first": [11, 3, 0]}),
        (IndexError, "outside", {"first": [-1, 3, 0]}),
        (IndexError, "outside", {"first": [2**63 - 1, 3, 0]}),
        (IndexError, "outside", {"first": [-(2**63), 3, 0]}),
        (IndexError, "outside", {"first": [0, 4, 0]}),
        (IndexError, "outside", {"count": [16, 2, 3]}),
        (IndexError, "outside", {"count": [0, 2, 3]}),
        (IndexError, "outside", {"count": [-5, 2, 3]}),
        (IndexError, "outside", {"count": [2**63 - 1, 2, 3]}),
        (ValueError, r"length \+ 1", {"count": [6, 2, 3]}),
        (ValueError, r"length \+ 1", {"count": [5, 2, 4]}),
        (ValueError, r"length \+ 1", {"offsets": [0, 2, 3]}),
        (ValueError, r"length \+ 1", {"offsets": [0, 0, 3]}),
        (ValueError, r"length \+ 1", {"offsets": [0, 3, 3]}),
        (ValueError, r"length \+ 1", {"length": 3}),
        (ValueError, "wrong size", {"length": 5}),
        (ValueError, r"1 to 2\^31", {"length": 0}),
        (ValueError, r"1 to 2\^31", {"length": -1}),
        (ValueError, r"1 to 2\^31", {"length": 2**62}),  # times 2 samples: 0 in 64 bits, if nobody looks
        (ValueError, r"1 to 2\^31", {"offsets": [0]}),
        (ValueError, r"1 to 2\^31", {"offsets": []}),
        (ValueError, "cover", {"offsets": [1, 2, 3]}),
        (ValueError, "cover", {"offsets": [0, 1, 2]}),
        (ValueError, "cover", {"offsets": [0, 1, 4]}),
        (ValueError, "ascend", {"offsets": [0, 4, 3]}),
        (ValueError, "ascend", {"offsets": [0, 2**40, 3]}),  # read far outside of the pieces, once
        (ValueError, "ascend", {"offsets": [0, -1, 3]}),
        (ValueError, "differ in length", {"first": [0, 3]}),
        (ValueError, "differ in length", {"count": [5, 2, 3, 1]}),
    ],
    ids=str,
)
def test_places_that_are_wrong(error: type[Exception], match: str, changes: dict[str, Any]) -> None:
    """Each is refused, none crashes, nothing is written. Catches a bound that is off by one or that overflows."""
    with pytest.raises(error, match=match):
        call(**changes)


@pytest.mark.parametrize("name", ARRAYS)
def test_outputs_that_are_wrong(name: str) -> None:
    """Above all no silent copy: the caller's array would stay as it was."""
    kind = ARRAYS[name]
    frozen = np.full((2, 4), UNWRITTEN, kind)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        call(**{name: frozen})
    for shape in ((2, 5), (1, 4), (0, 4)):
        with pytest.raises(ValueError, match="wrong size"):
            call(**{name: np.full(shape, UNWRITTEN, kind)})
    strided = np.full((2, 8), UNWRITTEN, kind)[:, ::2]
    turned = np.full((4, 2), UNWRITTEN, kind).T
    other = np.full((2, 4), UNWRITTEN, np.int64 if kind == np.int32 else np.int32)
    swapped = np.full((2, 4), UNWRITTEN, np.dtype(kind).newbyteorder())
    for wrong in (strided, turned, other, swapped, [[UNWRITTEN] * 4] * 2):
        with pytest.raises(TypeError):
            call(**{name: wrong})


@pytest.mark.parametrize(
    "tokens",
    [
        np.arange(20, dtype=np.uint8)[::2],  # would be read as if packed
        np.arange(10, dtype=np.uint8)[::-1],  # would be read from behind its end
        np.zeros((2, 5), np.uint8),
        np.zeros(10, np.uint64),
        np.zeros(10, np.int16),
        np.zeros(10, np.float32),
        np.zeros(10, ">u4"),
        np.zeros(10, "S3"),
    ],
    ids=lambda tokens: f"{tokens.dtype.str}{tokens.shape}{tokens.strides}",
)
def test_tokens_that_are_wrong(tokens: np.ndarray) -> None:
    """A shard's array is read by address, so another layout or type would be read as something else."""
    shards = ShardSet()
    with pytest.raises(ValueError, match="packed array"):
        shards.add(0, tokens, np.array([0, 10]))
    with pytest.raises(ValueError, match="packed array"):
        shards.add(0, np.zeros(10, np.uint8), np.empty(0, np.int64))
    assert 0 not in shards


# Documents of 3, 2 and 5 tokens: 10 11 12 | 13 14 | 15 16 17 18 19.
SHORT = Table(np.arange(10, 20, dtype=np.uint8), [0, 3, 5, 10], [0, 5, 10])


def filled(samples: list[list[tuple[int, int]]], length: int, **recipe: Any) -> dict[str, list[list[int]]]:
    outputs = empty(set(ARRAYS), len(samples), length)
    cu_seqlens, longest = SHORT.shards().fill(*SHORT.places(samples), length, cu_seqlens=True, **recipe, **outputs)
    assert cu_seqlens is not None
    shown = {name: array.tolist() for name, array in outputs.items()}
    return shown | {"cu_seqlens": cu_seqlens.tolist(), "longest": [longest]}


def test_padding_by_hand() -> None:
    """Mutants: padding has a target; it is of the document before it; its positions go on; it has no bound."""
    found = filled([[(0, 3), (8, 2)], [(3, 1)]], 7, fill=99)
    assert found["input_ids"] == [[10, 11, 12, 18, 19, 99, 99], [13, *[99] * 6]]
    # The piece (8, 2) is the rest of a document that was cut: one of its own, not more of what stands before it.
    assert found["targets"] == [[11, 12, IGNORE, 19, IGNORE, IGNORE, IGNORE], [IGNORE] * 7]
    assert found["position_ids"] == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 1, 2, 3, 4, 5]]
    assert found["doc_ids"] == [[0, 0, 0, 1, 1, 2, 2], [0, *[1] * 6]]
    assert found["cu_seqlens"] == [0, 3, 5, 7, 8, 14]
    assert found["longest"] == [6]  # padding is a document of its own


def test_pieces_that_follow_one_another_are_as_one() -> None:
    """Mutants: every piece begins a document; a document is overlooked where one that follows another begins."""
    whole = filled([[(1, 7)]], 8)
    for pieces in ([(1, 1), (2, 6)], [(1, 2), (3, 5)], [(1, 3), (4, 4)], [(1, 4), (5, 3)], [(1, 5), (6, 1), (7, 1)]):
        assert filled([pieces], 8) == whole
    assert whole["targets"] == [[12, IGNORE, 14, IGNORE, 16, 17, IGNORE, IGNORE]]


def test_a_sample_as_long_as_its_inputs_has_no_last_target() -> None:
    """Mutant: off by one between length and length + 1 tokens."""
    assert filled([[(5, 4)]], 4)["targets"] == [[16, 17, 18, IGNORE]]
    assert filled([[(5, 5)]], 4)["targets"] == [[16, 17, 18, 19]]
    assert filled([[(5, 4)]], 4)["cu_seqlens"] == [0, 4]


def test_documents_seen_across_by_hand() -> None:
    """Mutant: the target at a boundary stays ignored."""
    found = filled([[(0, 3), (3, 2), (5, 1)]], 7, across=True)
    assert found["targets"] == [[11, 12, 13, 14, 15, IGNORE, IGNORE]]
    assert found["position_ids"] == [[0, 1, 2, 3, 4, 5, 0]]
    assert found["doc_ids"] == [[0, 0, 0, 0, 0, 0, 1]]
    assert found["cu_seqlens"] == [0, 6, 7]


@pytest.mark.parametrize(
    ("template", "targets"),
    [
        ([15], [16, 17, 18, 19, IGNORE]),
        ([16], [IGNORE, 17, 18, 19, IGNORE]),
        ([16, 17], [IGNORE, IGNORE, 18, 19, IGNORE]),
        ([15, 16, 17, 18], [IGNORE, IGNORE, IGNORE, 19, IGNORE]),
        ([15, 16, 17, 18, 19], [IGNORE] * 5),
        ([18, 19], [IGNORE] * 5),
        ([17, 16], [IGNORE] * 5),
        ([19, 20], [IGNORE] * 5),
        ([-1], [IGNORE] * 5),
        ([15 + 2**32], [IGNORE] * 5),
    ],
    ids=str,
)
def test_a_response_template_by_hand(template: list[int], targets: list[int]) -> None:
    """The first token behind the template is a target, nothing before it. Mutants: the bound is off by one."""
    found = filled([[(5, 5)]], 5, template=np.array(template))
    assert found["targets"] == [targets]
    assert found["input_ids"] == [[15, 16, 17, 18, 19]]


def test_the_first_of_two_templates_counts() -> None:
    """Mutant: the last one does."""
    table, out = Table(np.array([1, 9, 2, 9, 3], np.uint8), [0, 5], [0, 5]), np.empty(5, np.int64)
    table.shards().fill(*table.pieces([0], 4), 5, targets=out, template=np.array([9]))
    assert out.tolist() == [IGNORE, 2, 9, 3, IGNORE]


def test_templates_that_are_wrong() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        filled([[(0, 3)]], 3, template=np.array([], np.int64))
    for wrong in (np.array([1.0]), np.array([1], np.int32), [1]):
        with pytest.raises(TypeError):
            filled([[(0, 3)]], 3, template=wrong)
