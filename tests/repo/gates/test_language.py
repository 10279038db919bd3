"""The gate `language`: languages told apart, the mix of a table, and one model for many threads."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import py3langid
import pytest
from cases import DOCS, documented, measured, read_cases
from gate_tables import verdict_on
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates import language
from pyfactory.repo.gates.language import UNDETERMINED, Language, language_of

ENGLISH = "Nobody in the village could remember such a cold winter."
GERMAN = "Niemand im Dorf konnte sich an einen so kalten Winter erinnern."
FRENCH = "Personne au village ne se souvenait d'un hiver aussi froid."


def test_precision_and_recall_are_those_of_the_docs() -> None:
    """Mutants: no least probability, so that code is Icelandic; the label `zxx` of the model taken for a language."""
    assert measured("language") == documented()["language"]


def test_share_of_right_languages_is_that_of_the_docs() -> None:
    cases = read_cases("language")[1]
    right = sum(language_of(case["added"][0]) == case["language"] for case in cases)
    stated = re.search(r"the right language in (\d+) of (\d+) lines", DOCS.read_text(encoding="utf-8"))
    assert stated is not None and (int(stated[1]), int(stated[2])) == (right, len(cases))


def test_no_least_probability_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = measured("language")
    monkeypatch.setattr(language, "_MIN_PROBABILITY", 0.0)
    assert measured("language") != before


def test_allowed_languages() -> None:
    """Mutants: undetermined passes unasked, the share is of the table and not of the added rows."""
    rows = [ENGLISH, GERMAN, "OK", FRENCH]
    verdict = verdict_on("language", {"allowed": ["en"], "max_share": "0.7"}, [ENGLISH] * 20, rows)
    assert not verdict.passed and verdict.evidence == ("r1", "r2", "r3")
    assert verdict.found == {"rows": 4, "en": 1, "de": 1, "fr": 1, "und": 1, "others": 3}
    assert "3 of 4 added rows (75%) are not in en" in verdict.reason
    assert verdict_on("language", {"allowed": ["en", "und"], "max_share": "0.5"}, None, rows).passed
    assert not verdict_on("language", {"allowed": ["en", "de", "und"]}, None, rows).passed
    assert verdict_on("language", {"allowed": ["en", "de", "und", "fr"], "max_share": "0"}, None, rows).passed


def test_mix_is_that_of_the_whole_table() -> None:
    """Mutant: the mix of the added rows only."""
    options = {"mix": ["en=0.8", "de=0.2"], "tolerance": "0.1"}
    assert verdict_on("language", options, [ENGLISH] * 8, [GERMAN, GERMAN]).passed
    verdict = verdict_on("language", options, [ENGLISH] * 8, [GERMAN] * 8)
    assert not verdict.passed and "50% of the table's 16 rows are in en, not 80%" in verdict.reason
    assert verdict.found["share:de"] == "50%"


def test_languages_out_of_the_mix() -> None:
    """Mutant: what the mix does not name is not looked at."""
    verdict = verdict_on("language", {"mix": ["en=0.7"], "tolerance": "0.2"}, None, [ENGLISH] * 5 + [FRENCH] * 5)
    assert verdict.passed
    verdict = verdict_on("language", {"mix": ["en=0.9"], "tolerance": "0.2"}, None, [ENGLISH] * 7 + [FRENCH] * 3)
    assert verdict.passed
    verdict = verdict_on(
        "language",
        {"mix": ["en=0.6", "de=0.4"], "tolerance": "0.15"},
        None,
        [ENGLISH] * 5 + [GERMAN] * 3 + [FRENCH] * 2,
    )
    assert not verdict.passed and "20% of the table's rows are in none of en, de" in verdict.reason


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"allowed": ("english",)},
        {"allowed": ("qq",)},
        {"allowed": ("EN",)},
        {"mix": ("en",)},
        {"mix": ("en=1.5",)},
        {"mix": ("en=0.8", "de=0.3")},
        {"mix": ("en=0.4", "en=0.4")},
        {"mix": ("zxx=0.4",)},
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Language(**options)


def test_only_the_start_of_a_text_is_looked_at() -> None:
    assert language_of(ENGLISH * 30 + GERMAN * 1000) == "en"
    assert language_of(" " * 900 + GERMAN * 1000) == "de"


def test_least_length() -> None:
    """Mutant: the length is that of the text with the spaces round it."""
    assert language_of("Guten Morgen allerseits", 23) == "de"
    assert language_of("Guten Morgen allerseits", 24) == language_of("Guten Morgen" + " " * 90) == UNDETERMINED
    assert language_of("", 0) == language_of("   ", 0) == UNDETERMINED


def test_threads_share_one_model() -> None:
    """Mutants: a model for each call; the library's own, which anybody may restrict to some languages."""
    language._load.cache_clear()
    py3langid.set_languages(["it", "es"])
    try:
        with ThreadPoolExecutor(8) as threads:
            found = [*threads.map(language_of, [ENGLISH, GERMAN, FRENCH] * 40)]
    finally:
        py3langid.set_languages()
    assert found == ["en", "de", "fr"] * 40
    assert language._load.cache_info().misses == 1


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters()), st.integers(0, 30))
def test_any_text_has_an_answer(text: str, min_length: int) -> None:
    found = language_of(text, min_length)
    assert found == UNDETERMINED or found in language._known()
    assert language_of(text, min_length) == found


def test_hostile_texts() -> None:
    for text in ("1" * 1_000_000, "\ud800" * 100, "\0" * 5000, "\u0327\u0301" * 500_000, "a\u0301" * 500_000):
        assert isinstance(language_of(text), str)
