"""The gates that run what a rule brings: queries and functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from gate_tables import verdict_on

from pyfactory.core.digest import digest_of
from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.function import find_source

HERE = Path(__file__).parent
SOURCE = (HERE / "sentence_ends.py").read_bytes()


@pytest.fixture(autouse=True)
def own_folder_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])


@pytest.mark.parametrize(
    "query",
    [
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "copy added to '/tmp/pyfactory-gate.csv'",
        "attach '/tmp/pyfactory-gate.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "create table x as select 1",
        "delete from added",
        "select 1; select 2",
        "select * from proposal",
        "select * from batches",
        "pragma database_list",
        "selec",
        "select nothing from added",
        "select cast(text as integer) from added",
        "",
        " ",
    ],
)
def test_a_query_reads_the_added_rows_and_nothing_else(query: str) -> None:
    """Mutant: files, settings or Python variables can be reached, by a rule that somebody else wrote."""
    with pytest.raises(InvalidInputError):
        verdict_on("sql", {"query": query}, None, ["a"])


def test_the_rows_of_a_query_are_offences() -> None:
    """Mutants: a row with the value false passes; ids are those of the table's own column."""
    columns = [["id", "string", True]]
    rows = [{"text": "a", "id": "fake"}, {"text": "b", "id": "fake"}]
    verdict = verdict_on("sql", {"query": "select id, false from added where text = 'b'"}, None, rows, columns=columns)
    assert (verdict.passed, verdict.found, verdict.evidence) == (False, {"rows": 2, "returned": 1}, ("r1",))
    assert verdict.reason == "the query returns 1 row over 2 added rows; it must return none"
    with_more = "with n as (select count(*) as c from added) select * from n where c <> 2"
    assert verdict_on("sql", {"query": with_more}, None, rows, columns=columns).passed
    twice = "select a.id from added a join added b on a.text = b.text"
    assert verdict_on("sql", {"query": twice}, None, rows, columns=columns).found["returned"] == 2


def test_a_query_over_tokens() -> None:
    query = "select id from added where list_contains(tokens, 7)"
    assert verdict_on("sql", {"query": query}, None, [[1, 2], [7]]).evidence == ("r1",)


def of_function(name: str, rows: list[str] | None = None, **options: Any) -> Any:
    given = {"function": f"sentence_ends:{name}", "digest": digest_of(SOURCE), **options}
    return verdict_on("function", given, None, rows or ["It ends.", "it does not"])


def test_a_function_names_the_rows_it_objects_to() -> None:
    verdict = of_function("unfinished")
    assert (verdict.passed, verdict.evidence, verdict.found["share"]) == (False, ("r1",), "0.5")
    assert of_function("unfinished", max_share="0.5").passed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("answers_text", "returns 2 ids or more that no added row has"),
        ("answers_numbers", "returns what is no id"),
        ("fails", "failed: RuntimeError: no"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_function_that_answers_badly_is_an_error(name: str, message: str) -> None:
    """Mutant: what a function returns goes into the verdict as it is, text and all."""
    with pytest.raises(InvalidInputError, match=message):
        of_function(name)


def test_a_function_of_another_source_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: the module is imported before its digest is compared; the digest is not compared."""
    trace = tmp_path / "ran"
    package = tmp_path / "gate_functions"
    package.mkdir()
    leave_trace = f"from pathlib import Path\n\nPath({str(trace)!r}).touch()\n"
    (package / "__init__.py").write_text(leave_trace)
    source = f"{leave_trace}\ndef check(batches):\n    return []\n"
    (package / "checks.py").write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    name = "gate_functions.checks:check"
    with pytest.raises(InvalidInputError, match="and the rule asks for"):
        verdict_on("function", {"function": name, "digest": "0" * 64}, None, ["a"])
    assert not trace.exists()
    assert verdict_on("function", {"function": name, "digest": digest_of(source.encode())}, None, ["a"]).passed
    assert trace.exists()


@pytest.mark.parametrize("module", ["no_such_module", "sys", "sentence_ends.inner", "json.no_such", "gate_folder"])
def test_only_python_source_is_found(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gate_folder").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InvalidInputError, match="no Python source"):
        find_source(module)


def test_source_is_found_where_it_is() -> None:
    assert find_source("sentence_ends") == HERE / "sentence_ends.py"
    assert find_source("json.decoder").name == "decoder.py"
