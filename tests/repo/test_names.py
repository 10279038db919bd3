"""Names that tables, branches and tags may have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.repo.names import check_ref_name, check_table_name, check_text, suggestion
from pyfactory.store.base import is_key_segment

GOOD = ["main", "a", "v1.0", "2026-01-02", "Corpus_7", "x" * 100, "abcdef", "face.1", "main.lock2", "a-b"]
BAD = [
    "",
    ".",
    "..",
    ".hidden",
    "-x",
    "_x",
    "a..b",
    "a.",
    "a.lock",
    "a b",
    "a\n",
    "a\x00",
    "ä",
    "a\\b",
    "x" * 101,
    "abcdef0",
    "0123456789",
    "ABCDEF0",
    "f" * 64,
    "\ud800",
    None,
    7,
    b"main",
]


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_taken(name: str) -> None:
    check_table_name(name)
    check_ref_name(name, "branch")


@pytest.mark.parametrize("name", BAD)
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(InvalidInputError, match="table cannot be called"):
        check_table_name(name)
    with pytest.raises(InvalidInputError, match="tag cannot be called"):
        check_ref_name(name, "tag")


@pytest.mark.parametrize("name", ["a/b", "feature/x/y", "v1/abcdef01", "brancher/x"])
def test_a_slash_divides_refs_but_not_tables(name: str) -> None:
    check_ref_name(name, "branch")
    with pytest.raises(InvalidInputError):
        check_table_name(name)


@pytest.mark.parametrize(
    "name", ["/a", "a/", "a//b", "a/../b", "a/.b", "a/b.lock", "tag/x", "branch/x", "x/" * 150 + "x"]
)
def test_refs_have_whole_parts_and_no_kind(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_ref_name(name, "branch")


@given(st.text(alphabet=st.sampled_from("abfAF09./-_ \n\x00ü~:@{"), max_size=12) | st.text(max_size=12))
def test_whatever_is_taken_is_harmless_everywhere(name: str) -> None:
    """A taken name is a safe path, is no digest, and says its parts: catches a pattern without end or with `match`."""
    try:
        check_ref_name(name, "branch")
    except InvalidInputError:
        return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name)
    assert not re.fullmatch(r"[0-9a-fA-F]{7,}", name)
    assert all(is_key_segment(part) and ".." not in part for part in name.split("/"))
    assert not name.endswith((".", ".lock", "/"))


def test_texts_that_cannot_be_stored_are_refused() -> None:
    check_text("für Größe ✓\nzwei Zeilen", "message")
    for text in ("\udcff", "x" * 20_001, None, 3):
        with pytest.raises(InvalidInputError, match="message"):
            check_text(text, "message")


def test_suggestions_name_what_is_near() -> None:
    assert suggestion("mian", ["main", "other"]) == "did you mean main?"
    assert suggestion("zzz", ["main", "other"]) == "there is main, other"
    assert suggestion("zzz", [f"t{n}" for n in range(20)]).endswith("…")
    assert suggestion("zzz", [], otherwise="make one") == "make one"


def test_a_ref_has_so_many_parts_and_no_more() -> None:
    """Catches a name that makes an entry of the log which nobody can read."""
    check_ref_name("/".join(["a"] * 16), "branch")
    with pytest.raises(InvalidInputError, match="more than 16 parts"):
        check_ref_name("/".join(["a"] * 17), "branch")
