"""Samples of contents: exact under merging, and hostile ones are seen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from gate_tables import batch_of
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError
from pyfactory.repo.gates.sample import WHOLE, ContentSample, content_digests, sampled


@pytest.mark.parametrize(
    "change",
    [
        {"below": 0},
        {"below": -1},
        {"below": WHOLE + 1},
        {"below": "x"},
        {"counts": [1]},
        {"counts": [1, 0]},
        {"counts": [1, 3]},
        {"digests": "0" * 15},
        {"digests": "g" * 32},
        {"digests": "A" * 32},
        {"digests": "0" * 32},
        {"digests": "f" * 16 + "0" * 16},
    ],
)
def test_a_forged_sample_is_corrupt(change: dict[str, Any]) -> None:
    measure = ContentSample(16)
    value = measure.measure(batch_of(["a", "bb"]))
    assert measure.check(value, 2) == value
    with pytest.raises(CorruptError):
        measure.check({**value, **change}, 2)


WORDS = st.lists(st.sampled_from([f"text {number}" for number in range(12)]), max_size=12)


@given(st.lists(WORDS, max_size=5), st.integers(1, 6), st.randoms())
def test_a_sample_is_that_of_the_union_in_any_order(shards: list[list[str]], size: int, random: Any) -> None:
    """Mutants: the bound is the last digest kept instead of the next; counts are lost in merging."""
    measure = ContentSample(size)
    samples = [measure.measure(batch_of(rows)) for rows in shards]
    random.shuffle(samples)
    merged = measure.empty()
    for sample in samples:
        merged = measure.merge(merged, sample)
    every = Counter(int(digest_of(row.encode())[:16], 16) for rows in shards for row in rows)
    digests = sorted(every)
    assert merged == {
        "below": digests[size] if len(digests) > size else WHOLE,
        "counts": [every[digest] for digest in digests[:size]],
        "digests": "".join(f"{digest:016x}" for digest in digests[:size]),
    }


@given(WORDS, WORDS, st.integers(1, 6))
def test_a_sample_without_a_part_is_one_of_the_rest(kept: list[str], gone: list[str], size: int) -> None:
    measure = ContentSample(size)
    rest = measure.without(measure.measure(batch_of([*kept, *gone])), measure.measure(batch_of(gone)))
    words = content_digests(batch_of(sorted({*kept, *gone})))[:, 0]
    below, known = sampled(rest, words)
    held = {int(digest_of(text.encode())[:16], 16) for text in kept}
    pairs = [(int(word), bool(low)) for word, low in zip(words, below, strict=True)]
    assert [bool(hit) for hit in known] == [word in held and low for word, low in pairs]
    assert all(low == (word < rest["below"]) for word, low in pairs)


def test_digests_are_those_of_the_content() -> None:
    """Mutants: offsets of a slice are taken as those of the whole; tokens are hashed without their width."""
    texts = ["a", "", "ccc", "ä"]
    wanted = [digest_of(text.encode())[:32] for text in texts]
    got = content_digests(batch_of(["x", *texts, "y"]).slice(1, 4))
    assert [f"{high:016x}{low:016x}" for high, low in got.tolist()] == wanted
    tokens = content_digests(batch_of([[9], [1, 2], [], [3]]).slice(1, 3))
    arrays = [np.array(row, "<u2").tobytes() for row in ([1, 2], [], [3])]
    assert [f"{high:016x}{low:016x}" for high, low in tokens.tolist()] == [digest_of(row)[:32] for row in arrays]
    assert content_digests(batch_of([])).shape == (0, 2)
