"""filter: conditions, reasons, functions of the user, and what is stored."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_tables import rows_of, run, text_table, write_job

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.job.executors.open import open_executor
from pyfactory.job.pieces import Piece, whole_pieces
from pyfactory.job.spec import load_job
from pyfactory.job.steps.base import Bench, State
from pyfactory.job.steps.filter import VERSION, Filter, FilterParameters, FilterWork
from pyfactory.shard.layout import raw_schema
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

TEXTS = ["", "a", "żó", "abc", "a\nc", "abcd", "ABC", "春😀x"]

# By hand: of TEXTS only abc (row 3) and abcd (row 5) have 3 characters or more, match a.c and do not begin with A.
GOLDEN = {
    1: b"pfselect" + (8).to_bytes(8, "little") + (2).to_bytes(8, "little") + bytes([0b00101000]),
}


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


def kept(objects: Objects, folder: Path, condition: str, texts: list[str] = TEXTS) -> list[str]:
    result = run(objects, write_job(folder, f"filter: {{{condition}}}"), text_table(objects, texts, [3]))
    return [text for _, text in rows_of(objects, result)]


def test_golden(objects: Objects) -> None:
    """Fails when the output of the step changes without a new VERSION."""
    parameters = FilterParameters(min_chars=3, matches="a.c", rejects="^A")
    piece = whole_pieces(text_table(objects, TEXTS).parts())[0]
    result = FilterWork(Filter(parameters, None, Path()), None, piece).run(objects)
    # Rows 0 to 2 are too short; 4 (no dot matches a line break), 6 and 7 do not match.
    assert objects.get(result.objects[0]) == GOLDEN[VERSION]
    assert result.counts == {"min_chars": 3, "matches": 3, "rejects": 0}
    assert result.numbers == (2,)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("min_chars: 3", TEXTS[3:]),
        ("max_chars: 2", TEXTS[:3]),
        ("min_chars: 2, max_chars: 3", ["żó", "abc", "a\nc", "ABC", "春😀x"]),
        ("matches: 'a.c'", ["abc", "abcd"]),
        ("matches: '(?s)a.c'", ["abc", "a\nc", "abcd"]),
        ("matches: '(?i)^abc$'", ["abc", "ABC"]),
        ("matches: '\\p{Han}'", ["春😀x"]),
        ("rejects: '[a-z]'", ["", "żó", "ABC"]),
        ("min_chars: 0", TEXTS),
        ("min_chars: 99", []),
    ],
)
def test_conditions(objects: Objects, tmp_path: Path, condition: str, expected: list[str]) -> None:
    assert kept(objects, tmp_path, condition) == expected


def test_a_row_is_dropped_by_the_first_condition_that_it_fails(objects: Objects, tmp_path: Path) -> None:
    job = write_job(tmp_path, "filter: {max_chars: 3, min_chars: 1, rejects: 'a'}")
    result = run(objects, job, text_table(objects, TEXTS, [2, 5]))
    report = result.reports[0]
    assert (report.step, report.version, report.rows_in, report.rows_out) == ("filter", VERSION, 8, 3)
    assert report.dropped == {"min_chars": 1, "max_chars": 1, "rejects": 3}
    assert list(report.dropped) == ["min_chars", "max_chars", "rejects"]


def test_nothing_is_copied(objects: Objects, tmp_path: Path) -> None:
    """What is stored for a piece is its selection, and nothing at all if it loses no row."""
    table = text_table(objects, ["long enough" * 100, "x", "long enough" * 100, "long enough"], [2])
    before = sum(size for _, size in objects.store.list("objects"))
    step = load_job(write_job(tmp_path, "filter: {min_chars: 2}")).plan.steps[0]
    with open_executor(1) as executor:
        bench = Bench(objects, executor, lambda *_: None)
        state, _ = step.run(bench, State(whole_pieces(table.parts()), raw_schema()))
    assert sum(size for _, size in objects.store.list("objects")) == before + 25
    assert [piece.keep is None for piece in state.pieces] == [False, True]
    assert [piece.rows for piece in state.pieces] == [1, 2]


@given(st.lists(st.text(max_size=4), max_size=12), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3))
def test_filters_in_a_row_are_one_filter(texts: list[str], low: int, high: int, cut: int) -> None:
    """The second filter sees what the first has left. Catches a selection that forgets the one before it."""
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, texts, [cut]).parts())
    with open_executor(1) as executor:
        bench = Bench(objects, executor, lambda *_: None)
        state = State(pieces, raw_schema())
        for parameters in (FilterParameters(min_chars=low), FilterParameters(max_chars=high)):
            state, report = parameters.bind(Path()).run(bench, state)
    expected = [low <= len(text) <= high for text in texts]
    assert report.rows_out == sum(expected) == state.rows


FUNCTIONS = """
    import neighbour
    from dataclasses import dataclass
    calls = []
    def long(text):
        calls.append(text)
        return len(text) >= neighbour.LEAST
    def number(text): return len(text)
    def none(text): pass
    def fails(text): return text[2] != ""
    notcallable = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.py").write_text(textwrap.dedent(FUNCTIONS))
    (tmp_path / "neighbour.py").write_text("LEAST = 3\n")
    return tmp_path


def test_a_function_decides(objects: Objects, folder: Path) -> None:
    assert kept(objects, folder, "function: 'rules:long'") == TEXTS[3:]


def test_a_function_sees_only_rows_that_are_left(objects: Objects, folder: Path) -> None:
    """The function fails on short texts; a condition before it, in this filter or an earlier, spares it those."""
    assert kept(objects, folder, "function: 'rules:fails', min_chars: 3") == TEXTS[3:]
    job = write_job(folder, "filter: {min_chars: 3}", "filter: {function: 'rules:fails'}")
    assert len(rows_of(objects, run(objects, job, text_table(objects, TEXTS, [4])))) == 5


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("fails", "rules:fails failed on record 'id-0': IndexError: string index out of range"),
        ("number", "rules:number returned 0 for record 'id-0'"),
        ("none", "rules:none returned None for record 'id-0'"),
        ("notcallable", "has no function 'notcallable'"),
    ],
)
def test_a_bad_function_stops_the_job_and_names_the_record(
    objects: Objects, folder: Path, name: str, complaint: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        kept(objects, folder, f"function: 'rules:{name}'")
    assert complaint in str(caught.value)


def test_the_record_named_is_the_first_with_any_number_of_workers(objects: Objects, folder: Path) -> None:
    table = text_table(objects, ["long text"] * 9 + ["x"] * 9, range(18))
    for workers in (1, 8):
        with pytest.raises(InvalidInputError, match="'id-9'"):
            run(objects, write_job(folder, "filter: {function: 'rules:fails'}"), table, workers)


def test_an_edited_function_is_another_task(objects: Objects, folder: Path) -> None:
    """Within one process too: the module that Python has in mind from the first run must not be used again."""
    table = text_table(objects, TEXTS)
    job = write_job(folder, "filter: {function: 'rules:long'}")
    assert len(rows_of(objects, run(objects, job, table))) == 5
    source = (folder / "rules.py").read_text()
    (folder / "rules.py").write_text(source.replace(">=", "<"))
    assert len(rows_of(objects, run(objects, job, table))) == 3
    (folder / "rules.py").write_text(source)
    again = run(objects, job, table)
    assert (len(rows_of(objects, again)), again.computed) == (5, 0)


def test_modules_of_one_name_in_two_folders(objects: Objects, tmp_path: Path) -> None:
    counts = []
    for least in (1, 3):
        folder = tmp_path / str(least)
        folder.mkdir()
        (folder / "samename.py").write_text(f"def long(text): return len(text) >= {least}\n")
        job = write_job(folder, "filter: {function: 'samename:long'}")
        counts.append(len(rows_of(objects, run(objects, job, text_table(objects, TEXTS)))))
    assert counts == [7, 5]


def test_functions_of_packages(objects: Objects, tmp_path: Path) -> None:
    package = tmp_path / "jobrules" / "deep"
    package.mkdir(parents=True)
    (tmp_path / "jobrules" / "__init__.py").write_text(
        "from .deep.least import LEAST\ndef ok(t): return len(t) > LEAST\n"
    )
    (package / "__init__.py").touch()
    (package / "least.py").write_text("LEAST = 2\ndef long(text): return len(text) > LEAST\n")
    (package / "rules.py").write_text("from .least import long as also\nlong = also\n")
    assert kept(objects, tmp_path, "function: 'jobrules.deep.rules:long'") == TEXTS[3:]
    assert kept(objects, tmp_path, "function: 'jobrules:ok'") == TEXTS[3:]
    assert kept(objects, tmp_path, "function: 'keyword:iskeyword'", ["if", "x"]) == ["if"]


def test_a_module_that_fails(objects: Objects, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def long(text): return True\nraise RuntimeError('not today')\n")
    with pytest.raises(InvalidInputError, match=r"broken\.py cannot be imported: RuntimeError: not today"):
        kept(objects, tmp_path, "function: 'broken:long'")


def test_the_path_of_imports_is_left_as_it_was(objects: Objects, folder: Path) -> None:
    import sys

    before = list(sys.path)
    kept(objects, folder, "function: 'rules:long'")
    assert sys.path == before


def test_a_piece_is_named_by_content_not_by_ids(objects: Objects) -> None:
    step = Filter(FilterParameters(min_chars=1), None, Path())
    names = set()
    for ids in (["a", "b"], ["c", "d"]):
        part = next(text_table(objects, ["x", "y"], ids=ids).parts())
        names.add(FilterWork(step, None, Piece(part, None, 2)).task().name())
    assert len(names) == 1
    other = Piece(part, Digest("0" * 63 + "1"), 1)
    assert FilterWork(step, None, other).task().name() not in names
