"""The gate `pii`: what it finds, what it passes over, and that no text makes it slow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from cases import CUT, DOCS, documented, measured, read_cases
from gate_tables import verdict_on
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates import pii, pii_numbers
from pyfactory.repo.gates.pii import DETECTORS, KINDS, PersonalRows, Pii, find_kinds
from pyfactory.repo.gates.pii_keys import entropy
from pyfactory.repo.gates.pii_numbers import find_cards, find_phones, passes_luhn

_KIND_ROW = re.compile(r"\| pii: (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|")


def labelled() -> list[tuple[str, bool, str]]:
    """Kind, label and text of each case."""
    return [(case["kind"], case["label"], case["added"][0].replace(CUT, "")) for case in read_cases("pii")[1]]


def by_kind() -> dict[str, tuple[int, int, int, int]]:
    """Cases that hold a kind, found among them, cases that do not (of the same kind of text), false alarms."""
    result = {}
    for kind in DETECTORS:
        found = [(label, kind in find_kinds(text)) for case_kind, label, text in labelled() if case_kind == kind]
        counts = [sum(pair == wanted for pair in found) for wanted in ((True, True), (True, False), (False, True))]
        hits, misses, alarms = counts
        result[kind] = (hits + misses, hits, len(found) - hits - misses, alarms)
    return result


def test_precision_and_recall_are_those_of_the_docs() -> None:
    """Mutants: no check digit for cards, no context of versions, reserved addresses count."""
    assert measured("pii") == documented()["pii"]


def test_numbers_by_kind_are_those_of_the_docs() -> None:
    rows = {name: tuple(map(int, numbers)) for name, *numbers in _KIND_ROW.findall(DOCS.read_text(encoding="utf-8"))}
    assert rows == by_kind()


def test_no_check_digit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture catches the mutant that takes any number of an issuer for a card."""
    before = by_kind()["card"]
    monkeypatch.setattr(pii_numbers, "passes_luhn", lambda digits: True)
    assert by_kind()["card"][3] > before[3]


def test_kinds_do_not_mix() -> None:
    """A find is of the kind that the case is about: a card number is no phone number, a password no mailbox."""
    for kind, _, text in labelled():
        assert {found for found in find_kinds(text) if not found.endswith("_reserved")} <= {kind}, text


def test_check_digit() -> None:
    """Mutant: the wrong half of the digits is doubled."""
    assert passes_luhn("79927398713")
    assert [digit for digit in "0123456789" if passes_luhn(f"7992739871{digit}")] == ["3"]
    assert [*find_cards("4111111111111111")] == ["card"]


@given(st.text("0123456789", min_size=1, max_size=30), st.integers(0, 29), st.integers(1, 9))
def test_check_digit_sees_every_wrong_digit(digits: str, at: int, by: int) -> None:
    at %= len(digits)
    wrong = f"{digits[:at]}{(int(digits[at]) + by) % 10}{digits[at + 1 :]}"
    assert not (passes_luhn(digits) and passes_luhn(wrong))


def test_reserved_addresses_are_counted_apart_and_allowed() -> None:
    text = "root@example.org 10.0.0.1 fe80::1 ::1 2001:db8::5"
    assert find_kinds(text) == {"email_reserved", "ip_reserved"}
    assert verdict_on("pii", {}, None, [text]).passed
    assert not verdict_on("pii", {"kinds": ["ip_reserved"]}, None, [text]).passed


def test_verdict_has_counts_and_ids_and_no_text() -> None:
    """Mutants: rows counted once a kind, evidence of other rows, the find itself in the verdict."""
    rows = ["nothing", "a.bauer@dorf-post.de 8.8.8.8", "", "call (415) 555-0132", "9.9.9.9"]
    verdict = verdict_on("pii", {"max_share": "0.5"}, ["old@dorf-post.de"], rows)
    assert not verdict.passed
    assert verdict.found == {"rows": 5, "hits": 3, "email": 1, "ip": 2, "phone": 1}
    assert verdict.evidence == ("r1", "r3", "r4")
    assert "dorf" not in str(verdict.to_value()) and "3 of 5 added rows (60%)" in verdict.reason
    assert verdict_on("pii", {"max_share": "0.6"}, None, rows).passed
    assert verdict_on("pii", {"max_share": "0.2", "kinds": ["phone", "card"]}, None, rows).passed


def test_other_columns_and_nulls() -> None:
    columns = [["title", "string", True], ["n", "int64", True]]
    rows = [{"text": "a", "title": "x@dorf-post.de"}, {"text": "b", "title": None}]
    assert verdict_on("pii", {}, None, rows, columns=columns).passed
    assert verdict_on("pii", {"columns": ["title"]}, None, rows, columns=columns).evidence == ("r0",)
    verdict = verdict_on("pii", {"columns": ["n"]}, None, rows, columns=columns)
    assert not verdict.passed and "'n'" in verdict.reason


@pytest.mark.parametrize("options", [{"kinds": ("mail",)}, {"kinds": ()}, {"columns": ()}])
def test_options_that_ask_for_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Pii(**options)


def test_bytes_that_are_no_text_are_looked_through() -> None:
    """A text that cannot be decoded is no way round the gate."""
    content = b"\xff\xfe x@dorf-post.de \xff"
    offsets = pa.py_buffer(memoryview(pa.array([0, len(content)], pa.int64()).to_numpy()))
    column = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(content))
    value = PersonalRows().measure(pa.record_batch([column], names=["text"]))
    assert value["counts"]["email"] == 1


@settings(max_examples=150, deadline=None)
@given(
    st.text()
    | st.lists(st.sampled_from([*"@.:+-/() 019afx\n\0", "::", "ey" + "J", "sk" + "-", "key=", "00"]), max_size=40).map(
        "".join
    )
)
def test_any_text_is_answered_and_hints_miss_nothing(text: str) -> None:
    """Mutant: a prefilter that is narrower than its detector, so that the column says less than the text."""
    for hint, find in DETECTORS.values():
        if {*find(text)} and text.isascii():
            assert pc.match_substring_regex(pa.array([text], pa.large_string()), hint).to_pylist() == [True]
    assert find_kinds(text) <= {*KINDS}
    assert 0 <= entropy(text) <= 21


def test_hints_miss_no_case() -> None:
    texts = [text for _, _, text in labelled()]
    column = pa.array(texts, pa.large_string())
    value = PersonalRows().measure(pa.record_batch([column], names=["text"]))
    for kind in KINDS:
        assert value["counts"].get(kind, 0) == sum(kind in find_kinds(text) for text in texts)


HOSTILE: dict[str, str] = {
    "digits": "1",
    "spaced digits": "1 ",
    "zeros": "01 ",
    "dots": "1.",
    "ats": "a@",
    "domains": "a.",
    "colons": "a:",
    "brackets": "(0",
    "pluses": "+1((",
    "tokens": "ey" + "J",
    "urls": "a://b:",
    "names": "api_key=",
    "phones": "tel 1 1 ",
    "quotes": "a'",
    "minus": "-----BEGIN ",
    "nul": "\0",
    "surrogates": "\ud800@",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_line_takes_linear_time(name: str) -> None:
    """Mutant: a pattern without a bound, whose time grows with the square of the text."""
    short, long = (_seconds(find_kinds, HOSTILE[name] * (size // len(HOSTILE[name]))) for size in (40_000, 320_000))
    assert long < 8 * max(short, 0.02) * 4


def test_a_million_digits_on_one_line() -> None:
    assert find_kinds("1" * 1_000_000) == set()


def _seconds(function: Callable[[str], Any], text: str) -> float:
    started = time.process_time()
    function(text)
    return time.process_time() - started


def test_one_pass_picks_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: every row goes through the detectors, which is ten times as slow."""
    seen: list[str] = []
    watched = {kind: (hint, lambda text: iter(seen.append(text) or ())) for kind, (hint, _) in DETECTORS.items()}
    monkeypatch.setattr(pii, "DETECTORS", watched)
    texts = ["a plain line of words, with a number like 42 and a year like 1999"] * 50 + ["x@y.z"]
    PersonalRows().measure(pa.record_batch([pa.array(texts, pa.large_string())], names=["text"]))
    assert seen == ["x@y.z"]


def test_phone_forms_of_the_docs() -> None:
    for text in ("+49 30 23125011", "0049 30 23125011", "030 23125011", "(415) 555-0132", "01 99 00 12 34"):
        assert {*find_phones(text)} == {"phone"}, text
