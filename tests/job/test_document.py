"""YAML files as values with lines: what is taken, what is refused, and where it is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.job.document import nearest, parse_document, read_document

PATH = Path("job.yaml")

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(plain, st.booleans())
def test_reads_what_yaml_writes(value: object, flow: bool) -> None:
    # PyYAML writes control characters and the like escaped, and reads them back.
    text = yaml.safe_dump(value, default_flow_style=flow)
    assert parse_document(text, PATH).value == value


def test_lines_are_those_of_keys_and_items() -> None:
    document = parse_document("a: 1\nb:\n  - x\n  - c:\n      d: {e: 5,\n        f: 6}\n", PATH)
    assert document.value == {"a": 1, "b": ["x", {"c": {"d": {"e": 5, "f": 6}}}]}
    where = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c", "d"): 5, ("b", 1, "c", "d", "f"): 6}
    assert {way: int(document.at(way).split(":")[1]) for way in where} == where
    assert document.at(("b", 1, "c", "nothing", "here")) == "job.yaml:4"
    assert document.at(("nowhere",)) == "job.yaml:1"


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("a: 1\nb: 1.5", 2, "1.5 is a number with a fraction"),
        ("a: 1e3\nb: 1.e+3", 2, "fraction"),
        ("a: .nan", 1, "fraction"),
        ("a: 1\n\na: 2", 3, "'a' occurs twice, first on line 1"),
        ("a: {b: 1,\n b: 2}", 2, "'b' occurs twice"),
        ("a: no", 1, "'no' is not a plain value"),
        ("a: 2020-01-01", 1, "not a plain value"),
        ("a: 012", 1, "012 is not a plain decimal integer"),
        ("a: 0x10", 1, "not a plain decimal integer"),
        ("a: 1:30", 1, "not a plain decimal integer"),
        ("a: 123456789012345678901234567890", 1, "not a plain decimal integer"),
        ("1: a", 1, "the key '1' is not text"),
        ("? [a]\n: b", 1, "is not text"),
        ("a: &x 1\nb: *x", 2, "an alias (*name) is not allowed"),
        ("a: &x [*x]", 1, "an alias"),
        ("b: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("b: !!set {a}", 1, "tag"),
        ("b: !mine x", 1, "not a plain value"),
        ("a: 1\nb: [", 2, "this is not YAML"),
        ("a: 1\n\tb: 2", 2, "this is not YAML"),
        ("a: 1\n---\nb: 2", 2, "this is not YAML"),
        ("a: \x00", None, "this is not YAML"),
        ("[" * 1200, None, "nested too deeply"),
    ],
)
def test_refuses_and_says_where(text: str, line: int | None, complaint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_document(text, PATH)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("job.yaml" if line is None else f"job.yaml:{line}: ")


def test_an_empty_file_is_nothing() -> None:
    assert parse_document("# only a remark\n", PATH).value is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.yaml"):
        read_document(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(InvalidInputError, match=r"latin\.yaml:2: this is not UTF-8"):
        read_document(tmp_path / "latin.yaml")


@given(st.text(alphabet="ab:-[]{}&*!|>'\"\n #,?", max_size=40))
def test_no_text_ends_in_another_error(text: str) -> None:
    try:
        parse_document(text, PATH)
    except InvalidInputError as error:
        assert str(error).startswith("job.yaml")


def test_nearest_names_a_near_word_and_all() -> None:
    assert nearest("min_char", ["min_chars", "function"]) == "did you mean 'min_chars'? allowed: function, min_chars"
    assert nearest("zzz", ["min_chars"]) == "allowed: min_chars"
