"""The gate `contamination`: windows of words, evaluation sets as objects, and the gate over both."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import documented, read_cases
from gate_tables import grown, part_of, table
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import BadRecordError, CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.repo.gates import contamination_ngrams
from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.gates.contamination import Contamination, check_set_name, digests_in_options
from pyfactory.repo.gates.contamination_ngrams import windows_of
from pyfactory.repo.gates.contamination_sets import EvaluationSet, load_set, make_set, read_texts
from pyfactory.repo.gates.run import judge
from pyfactory.repo.objects import Tree
from pyfactory.repo.rules import GateRule
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

WORDS = [f"word{number}" for number in range(100)]


def judged(sets: dict[str, list[str]], rows: list[str], *, words: int = 13, **options: Any) -> Verdict:
    """Store the sets and judge rows that are added to a table."""
    objects = Objects(MemoryStore())
    named = [f"{name}={objects.put(make_set(texts, words).to_bytes())}" for name, texts in sets.items()]
    before = table(objects, ["a row that is there"], prefix="b")
    after = grown(objects, before, [part_of(objects, rows, ids=[f"r{row}" for row in range(len(rows))])])
    rule = GateRule("contamination", "t", {"sets": named, "n": words, **options})
    (verdict,) = judge(objects, [rule], Tree({"t": before}), Tree({"t": after}))
    return verdict


def measured(n: int = 13) -> tuple[int, int, str, str]:
    """See `cases.measured`; the evaluation sets of the fixture are stored first."""
    shared, cases = read_cases("contamination")
    found = {at for at, case in enumerate(cases) if not judged(shared["sets"], case["added"], words=n).passed}
    labels = {at for at, case in enumerate(cases) if case["label"]}
    right = len(found & labels)
    return len(cases), len(labels), share(right, len(found)), share(right, len(labels))


def test_precision_and_recall_are_those_of_the_docs() -> None:
    """Mutants: no case folding, no NFKC, punctuation kept, words of one text run into the next."""
    assert measured() == documented()["contamination"]


def test_shorter_windows_find_more_and_err_more() -> None:
    """The fixture catches a gate that ignores its n."""
    _, _, precision, recall = measured(6)
    assert precision < "1.00" and recall > measured()[3]


def test_normal_forms_are_one() -> None:
    """Mutants: as above, one by one."""
    text = "Ärger macht der große Fisch, im tiefen (kalten) See!"
    known = make_set([text], 9)
    for same in (
        text.upper(),
        text.replace("Ä", "A\u0308"),
        "ÄRGER macht der grosse\nFisch -- im _tiefen_ kalten... SEE?",
        text.replace("Fisch", "".join(chr(ord(letter) + 0xFEE0) for letter in "Fisch")),
    ):
        assert shared(known, [same]) == [0], same
    assert shared(known, [text.replace("Ä", "A")]) == []


def test_windows_do_not_cross_texts() -> None:
    """Mutant: rows are one stream of words."""
    known = make_set(["a b c d e f"], 4)
    assert shared(known, ["a b", "c d e f", "x a b c", "d e f", "z a b c d"]) == [1, 4]


def test_scripts_without_spaces_count_characters() -> None:
    known = make_set(["渡船早上七点出发天黑以前回来"], 13)
    assert len(known.hashes) == 2
    assert shared(
        known, ["他说\uff1a渡船早上七点出发\uff0c天黑以前回来。", "渡船早上八点出发\uff0c天黑以前回来。"]
    ) == [0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "Ä", "c9", "漢", "é"]), max_size=12), max_size=6),
    st.integers(1, 5),
    st.integers(3, 40),
)
def test_windows_are_those_of_a_plain_model(texts: list[list[str]], n: int, chunk: int) -> None:
    """Mutants: a window lost at the border of two pieces, one counted twice, a wrong row."""
    written = [" ".join(words) for words in texts]
    codes: dict[tuple[str, ...], int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination_ngrams, "CHUNK", chunk)
        pieces = [*windows_of(written, n)]
    got = [(int(row), int(code)) for piece in pieces for row, code in zip(piece.rows, piece.hashes, strict=True)]
    plain = [(row, tuple(words[at : at + n])) for row, words in enumerate(texts) for at in range(len(words) - n + 1)]
    assert [row for row, _ in got] == [row for row, _ in plain]
    for (_, code), (_, window) in zip(got, plain, strict=True):
        assert codes.setdefault(window, code) == code
    assert len({*codes.values()}) == len(codes)
    counted = np.zeros(len(texts), np.int64)
    for piece in pieces:
        counted[piece.words[0]] += piece.words[1]
    assert counted.tolist() == [len(words) for words in texts]


def test_a_long_text_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text longer than a piece is cut between words: the windows are those of the text in one piece."""
    text = " ".join(np.random.default_rng(1).choice(WORDS, 3000))
    (whole,) = windows_of([text], 13)
    monkeypatch.setattr(contamination_ngrams, "CHUNK", 1500)
    pieces = [*windows_of([text], 13)]
    assert len(pieces) > 5
    assert np.concatenate([piece.hashes for piece in pieces]).tolist() == whole.hashes.tolist()


def test_hashes_are_frozen() -> None:
    """Stored sets rely on them. Mutant: another base, order or mixing."""
    assert make_set(["one two three"], 2).hashes.tolist() == [99773146834931171, 1948223797832535094]


def test_sets_are_read_back() -> None:
    made = make_set(["One two three four.", "one, two: three", "no"], 3)
    assert (made.texts, made.short, made.n) == (3, 1, 3)
    content = made.to_bytes()
    assert content[:32] == b"PYFNGRAM" + bytes([1] + [0] * 7 + [3] + [0] * 7 + [2] + [0] * 7)
    read = EvaluationSet.from_bytes(content, "a set")
    assert read.n == 3 and read.hashes.tolist() == made.hashes.tolist() == sorted({*made.hashes.tolist()})


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 48), st.booleans())
def test_hostile_sets(noise: bytes, cut: int, prefix: bool) -> None:
    """Mutant: a count that is believed before the length is looked at."""
    content = make_set(["a b c"], 2).to_bytes()
    hostile = content[:cut] + noise if prefix else noise + content[cut:]
    try:
        read = EvaluationSet.from_bytes(hostile, "a set")
    except (CorruptError, NewerFormatError):
        return
    assert read.to_bytes() == hostile


def test_sets_that_are_wrong() -> None:
    content = make_set(["a b c d"], 2).to_bytes()
    words = np.frombuffer(content, "<u8").copy()
    for at, value in ((1, 0), (2, 0), (2, 65), (3, 2), (3, 2**63), (4, words[5])):
        wrong = words.copy()
        wrong[at] = value
        with pytest.raises(CorruptError):
            EvaluationSet.from_bytes(wrong.tobytes(), "a set")
    words[1] = 2
    with pytest.raises(NewerFormatError):
        EvaluationSet.from_bytes(words.tobytes(), "a set")


def test_look_up_is_exact() -> None:
    """Mutant: the first 22 bits decide."""
    known = make_set([" ".join(WORDS)], 3)
    near = known.hashes ^ np.uint64(1)
    assert known.contains(known.hashes).all()
    assert known.contains(near).tolist() == np.isin(near, known.hashes).tolist()
    empty = EvaluationSet(3, np.zeros(0, np.uint64))
    assert not empty.contains(known.hashes).any()


def test_verdict_names_sets_and_ids() -> None:
    """Mutants: a row in two sets counts twice; short rows are not told."""
    text = " ".join(WORDS[:15])
    rows = [f"see {text} there", "too short", " ".join(WORDS[20:40]), " ".join(WORDS[30:50])]
    verdict = judged({"quiz": [text, "x"], "exam": [text, " ".join(WORDS[30:43])]}, rows, max_share="0.5")
    assert verdict.found == {"rows": 4, "hits": 2, "short": 1, "set:quiz": 1, "set:exam": 2}
    assert verdict.passed and verdict.evidence == ("r0", "r3")
    assert "2 of 4 added rows (50%) share 13 words in a row with exam 2, quiz 1" in verdict.reason
    assert "word1" not in str(verdict.to_value())


def test_least_hits() -> None:
    """Mutant: windows in all rows together count."""
    text = " ".join(WORDS[:15])  # three windows of 13
    rows = [text, " ".join(WORDS[:14]), " ".join(WORDS[:13]), text + " and " + text]
    assert [judged({"a": [text]}, rows, min_hits=hits).found["hits"] for hits in (1, 2, 3, 4, 6, 7)] == [
        4,
        3,
        2,
        1,
        1,
        0,
    ]


def test_sets_of_another_n_and_missing_ones() -> None:
    with pytest.raises(InvalidInputError, match="windows of 5 words"):
        judged({"a": ["a b c d e f"]}, ["x"], words=5, n=13)
    objects = Objects(MemoryStore())
    with pytest.raises(NotFoundError, match="add-set"):
        load_set(objects, objects.put(b"x").replace("a", "b").replace("0", "1"), "the set")
    with pytest.raises(CorruptError):
        load_set(objects, objects.put(b"x"), "the set")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sets": ("quiz",)},
        {"sets": ("quiz=12ab",)},
        {"sets": (f"a/b={'0' * 64}",)},
        {"sets": (f"a={'0' * 64}", f"a={'1' * 64}")},
        {"sets": (f"a={'0' * 64}",), "n": 0},
        {"sets": (f"a={'0' * 64}",), "n": 65},
        {"sets": (f"a={'0' * 64}",), "min_hits": 0},
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Contamination(**options)


def test_digests_that_a_rule_needs() -> None:
    assert digests_in_options({"sets": [f"a={'1' * 64}", "b=2", f"c={'3' * 64}"]}) == ("1" * 64, "3" * 64)
    assert digests_in_options({}) == digests_in_options({"sets": "a"}) == ()


def test_files_of_texts(tmp_path: Path) -> None:
    lines, records = tmp_path / "a.txt", tmp_path / "a.jsonl"
    lines.write_text("one two\n\n  three\n", encoding="utf-8")
    records.write_text(json.dumps({"text": "one\ntwo", "id": 3}) + "\n\n", encoding="utf-8")
    assert [text.strip() for text in read_texts(lines)] == ["one two", "three"]
    assert [*read_texts(records)] == ["one\ntwo"]
    for wrong in (b"{}", b"[1]", b'"a"', b'{"text": 3}', b"{", b"[" * 100_000, b'"\xff"'):
        records.write_bytes(wrong)
        with pytest.raises(BadRecordError, match="line 1"):
            [*read_texts(records)]
    lines.write_bytes(b"\xff\n")
    with pytest.raises(BadRecordError):
        [*read_texts(lines)]


@pytest.mark.parametrize("name", ["", "a b", "a=b", "../x", "ä", "x" * 101])
def test_names_that_no_set_has(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_set_name(name)


@pytest.mark.parametrize("n", [0, 65])
def test_windows_that_cannot_be(n: int) -> None:
    with pytest.raises(InvalidInputError):
        make_set(["a b"], n)


def test_a_set_without_a_window() -> None:
    with pytest.raises(InvalidInputError, match="no text has 13 words"):
        make_set(["a b", ""], 13)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters()), max_size=4), st.integers(1, 4))
def test_any_text_has_windows(texts: list[str], n: int) -> None:
    for piece in windows_of(texts, n):
        assert len(piece.hashes) == len(piece.rows)


@pytest.mark.parametrize("text", ["1", "\u0327\u0301", "a\u0301", "\ud800", "漢", "\0", " ", "\ufdfa"])
def test_a_long_line_takes_linear_time(text: str) -> None:
    """Mutant: all marks go into the normalisation, which sorts them in quadratic time."""
    started = time.process_time()
    for _ in windows_of([text * (200_000 // len(text))], 13):
        pass
    assert time.process_time() - started < 4


def shared(known: EvaluationSet, texts: list[str]) -> list[int]:
    """Numbers of the texts that share a window with a set."""
    pieces = windows_of(texts, known.n)
    return sorted({row for piece in pieces for row in piece.rows[known.contains(piece.hashes)].tolist()})


def share(part: int, whole: int) -> str:
    return f"{part * 100 // whole / 100:.2f}"
