"""What each gate says: numbers, sentence, evidence."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from gate_tables import batch_of, grown, part_of, table, verdict_on
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.repo.gates.drift import ByteHistogram, TokenHistogram, ValueHistogram, jensen_shannon, psi
from pyfactory.repo.gates.duplicates import occurring_twice
from pyfactory.repo.gates.lengths import LengthHistogram, log2_buckets
from pyfactory.repo.gates.nulls import Absent
from pyfactory.repo.gates.run import judge
from pyfactory.repo.objects import Tree
from pyfactory.repo.rules import GateRule
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


def test_schema_names_what_is_wrong() -> None:
    """Mutant: only the names of columns are compared."""
    verdict = verdict_on(
        "schema",
        {},
        [{"text": "a"}],
        [{"text": "b"}],
        columns_before=[["source", "string", True], ["year", "int32", True]],
        columns=[["year", "int64", True], ["lang", "string", True]],
    )
    told = "unlike the target: 'source' is removed; 'year' is int64 instead of int32; 'lang' is added"
    assert (verdict.passed, verdict.reason) == (False, told)


def test_counts_are_within_their_bounds() -> None:
    """Mutants: a bound is exclusive; shares are of the new table instead of the target."""
    kept = verdict_on("counts", {"max_added": "0.5"}, ["a", "b"], ["c"])
    assert kept.passed
    assert kept.found["share added"] == "0.5"
    verdict = verdict_on("counts", {"max_added": "0.49", "max_rows": 2, "min_tokens": 1}, ["a", "b"], ["c"])
    assert verdict.reason == (
        "3 rows, more than 2; 0 tokens, fewer than 1; 1 rows added, 50% of the 2 of the target, over 49%"
    )


def test_a_table_that_is_written_anew_is_removed_and_added() -> None:
    objects = Objects(MemoryStore())
    before, after = table(objects, ["a", "b"], ["c", "d"]), table(objects, ["a", "b"], ["c", "e"])
    (verdict,) = judge(
        objects, [GateRule("counts", "t", {"max_removed": "0.4"})], Tree({"t": before}), Tree({"t": after})
    )
    assert verdict.reason == "2 rows removed, 50% of the 4 of the target, over 40%"


def test_nulls_tell_column_kind_and_share() -> None:
    rows = [{"text": "a", "source": None}, {"text": " ", "source": "web"}, {"text": "b", "source": "x"}]
    verdict = verdict_on("nulls", {}, None, rows, columns=[["source", "string", True]])
    blank = "'text' is blank in 1 of 3 added rows, 33.3333%, over 1%"
    null = "'source' is null in 1 of 3 added rows, 33.3333%, over 5%"
    assert (verdict.passed, verdict.reason, verdict.evidence) == (False, f"{blank}; {null}", ("r0", "r1"))
    assert verdict.found == {"rows": 3, "blank:text": 1, "null:source": 1}


def test_null_is_not_blank() -> None:
    value = Absent().measure(batch_of([{"text": "a", "s": None}, {"text": "", "s": "\t"}], [["s", "string", True]]))
    assert value == {
        "counts": {"blank:text": 1, "null:s": 1, "blank:s": 1},
        "rows": {"null:s": [0], "blank:text": [1], "blank:s": [1]},
    }


def test_lengths_are_counted_in_characters_or_tokens() -> None:
    """Mutants: bytes are counted; the bounds are exclusive."""
    verdict = verdict_on("lengths", {"min": 2, "max": 3, "max_outside": "0.5"}, None, ["ää", "日本語", "x", "abcd"])
    assert verdict.passed
    assert verdict.found == {
        "rows": 4,
        "short": 1,
        "long": 1,
        "share": "0.5",
        "length 2^0": 1,
        "length 2^1": 2,
        "length 2^2": 1,
    }
    tokens = verdict_on("lengths", {"min": 2}, None, [[1], [1, 2], []])
    assert (tokens.found["short"], tokens.evidence) == (2, ("r0", "r2"))


@given(st.lists(st.integers(0, 2**52), max_size=20))
def test_log2_buckets_are_binary_digits(lengths: list[int]) -> None:
    counts = log2_buckets(np.array(lengths, np.int64))
    digits = [str(length.bit_length()) for length in lengths]
    assert counts == {digit: digits.count(digit) for digit in set(digits)}


def test_duplicates_are_exact_among_the_added_rows() -> None:
    """Mutant: only the second of two equal rows counts."""
    verdict = verdict_on("duplicates", {"max_share": "0.5"}, None, ["a", "b", "a", "c"])
    assert verdict.passed
    assert verdict.found == {"rows": 4, "repeated": 2, "share repeated": "0.5"}
    stopped = verdict_on("duplicates", {"max_share": "0.49"}, None, ["a", "b", "a", "c"])
    assert (stopped.passed, stopped.evidence) == (False, ("r0", "r2"))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_only_whole_digests_are_equal(digests: list[tuple[int, int]]) -> None:
    """Mutant: rows that share half a digest are taken for equal."""
    twice = occurring_twice(np.array(digests, np.uint64).reshape(-1, 2))
    assert twice.tolist() == [digests.count(digest) > 1 for digest in digests]


def test_duplicates_across_shards_are_found() -> None:
    """Mutant: rows are compared within their shard only."""
    objects = Objects(MemoryStore())
    after = table(objects, ["a", "b"], ["c", "b"], ["a"])
    (verdict,) = judge(objects, [GateRule("duplicates")], None, Tree({"t": after}))
    assert verdict.evidence == ("r0", "r1", "r3", "r4")


def test_the_estimate_against_the_target_is_near_and_says_how_near() -> None:
    """Mutants: the bound of the sample is ignored, so that all but the smallest digests are taken for new ones."""
    objects = Objects(MemoryStore())
    before = table(objects, [f"old {row}" for row in range(3000)])
    added = [f"old {row}" for row in range(600)] + [f"new {row}" for row in range(1400)]
    part = part_of(objects, added)
    after = grown(objects, before, [part])
    rule = GateRule("duplicates", "t", {"sample": 512, "max_known": "0.2"})
    (verdict,) = judge(objects, [rule], Tree({"t": before}), Tree({"t": after}))
    share, error = float(verdict.found["share known"]), float(verdict.found["error"])
    assert 200 < int(verdict.found["compared"]) < 500
    assert abs(share - 0.3) < error < 0.07
    assert not verdict.passed
    assert len(verdict.evidence) == 20
    assert set(verdict.evidence) < {f"{part.shard[:8]}-{row}" for row in range(600)}


def test_a_sample_that_meets_no_row_says_so() -> None:
    objects = Objects(MemoryStore())
    before = table(objects, [f"old {row}" for row in range(4000)])
    after = grown(objects, before, [part_of(objects, ["new 1"])])
    rule = GateRule("duplicates", "t", {"sample": 16})
    (verdict,) = judge(objects, [rule], Tree({"t": before}), Tree({"t": after}))
    assert verdict.passed
    assert "nothing is known about repeats" in verdict.reason


def test_a_rewritten_shard_is_no_duplicate_of_itself() -> None:
    """Mutant: the added rows are compared with the rows that they replace."""
    objects = Objects(MemoryStore())
    before, after = table(objects, ["a", "b"], ["c", "d"]), table(objects, ["a", "b"], ["c", "e"])
    (verdict,) = judge(
        objects, [GateRule("duplicates", "t", {"max_known": "0"})], Tree({"t": before}), Tree({"t": after})
    )
    assert (verdict.passed, verdict.found["known"]) == (True, 0)


def test_the_content_may_be_another_column() -> None:
    rows = [{"text": str(row), "image": b"same"} for row in range(2)]
    columns = [["image", "binary", True]]
    assert verdict_on("duplicates", {}, None, rows, columns=columns).passed
    assert not verdict_on("duplicates", {"column": "image"}, None, rows, columns=columns).passed


def smoothed(ours: dict[str, int], theirs: dict[str, int]) -> list[tuple[float, float]]:
    names = {*ours, *theirs}
    return [
        (
            (ours.get(name, 0) + 0.5) / (sum(ours.values()) + 0.5 * len(names)),
            (theirs.get(name, 0) + 0.5) / (sum(theirs.values()) + 0.5 * len(names)),
        )
        for name in names
    ]


HISTOGRAMS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)


@given(HISTOGRAMS, HISTOGRAMS)
def test_the_divergences_are_as_defined(ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Mutants: logarithms to base 2; half of Jensen-Shannon; no smoothing, so that a new bucket is infinite."""
    pairs = smoothed(ours, theirs)
    index = sum((p - q) * math.log(p / q) for p, q in pairs)
    left = sum(p * math.log(2 * p / (p + q)) for p, q in pairs)
    right = sum(q * math.log(2 * q / (p + q)) for p, q in pairs)
    assert float(psi(ours, theirs)) == pytest.approx(index, abs=6e-5)
    assert float(jensen_shannon(ours, theirs)) == pytest.approx((left + right) / 2, abs=6e-5)
    assert psi(ours, theirs) == psi(theirs, ours) >= 0
    assert Decimal(0) <= jensen_shannon(ours, theirs) <= Decimal("0.6932")
    assert psi(ours, ours) == jensen_shannon(ours, ours) == 0


def test_worked_divergences() -> None:
    # (90.5, 10.5) / 101 against (50.5, 50.5) / 101
    assert psi({"a": 90, "b": 10}, {"a": 50, "b": 50}) == Decimal("0.8531")
    assert jensen_shannon({"a": 90, "b": 10}, {"a": 50, "b": 50}) == Decimal("0.0991")


def test_histograms_count_what_they_say() -> None:
    """Mutants: the offsets of a slice are ignored; a class of bytes overlaps another."""
    text = batch_of(["x", "aB1 \n.", "é日", "y"]).slice(1, 2)
    counts = ByteHistogram().measure(text)["counts"]
    assert counts == {
        "lower": 1,
        "upper": 1,
        "digit": 1,
        "space": 1,
        "line": 1,
        "sign": 1,
        "continued": 3,
        "lead of 2": 1,
        "lead of 3": 1,
    }
    every = batch_of([bytes(range(128)).decode()])
    assert sum(ByteHistogram().measure(every)["counts"].values()) == 128
    tokens = TokenHistogram().measure(batch_of([[9], [1, 1, 65535]]).slice(1, 1))["counts"]
    assert tokens == {str((token * 2654435761 % 2**32) >> 22): count for token, count in ((1, 2), (65535, 1))}
    assert LengthHistogram().measure(batch_of([[1, 2, 3], []]))["counts"] == {"2": 1, "0": 1}
    values = batch_of([{"s": "web"}, {"s": "web"}, {"s": None}, {"s": ""}], [["s", "string", True]])
    assert sorted(ValueHistogram("s").measure(values)["counts"].values()) == [1, 1, 2]
    assert ValueHistogram("s").measure(values)["counts"]["null"] == 1


def test_drift_may_be_of_the_whole_table() -> None:
    rows = ["plain words of a text"] * 99
    few = ["1234567890 1234567890"]
    assert not verdict_on("drift", {}, rows, few).passed
    whole = verdict_on("drift", {"of": "table"}, rows, few)
    assert (whole.passed, whole.found["PSI lengths"]) == (True, "0")


def test_drift_compares_what_is_asked_for_only() -> None:
    verdict = verdict_on("drift", {"measures": ["lengths"], "js": "0"}, ["abc"] * 9, ["123"])
    assert (verdict.passed, [*verdict.found]) == (True, ["PSI lengths", "JS lengths"])
