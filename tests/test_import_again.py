"""An import that is run again, whatever became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.errors import ConflictError
from pyfactory.factory import build, import_files
from pyfactory.repo.repository import Repository
from tests.raw_files import documents, write_job, write_records


@pytest.mark.parametrize("id_field", [None, "id"])
def test_an_import_may_be_run_again(tmp_path: Path, id_field: str | None) -> None:
    """Catches: a rerun that appends everything twice, or that is refused since its ids are taken."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_records(raw / "a.jsonl", documents(5, 1))
    write_records(raw / "b.jsonl", documents(5, 2, "other"))
    repo = Repository.create(tmp_path / "repository")
    first = import_files(repo, "raw", [raw], id=id_field)
    again = import_files(Repository.open(tmp_path / "repository"), "raw", [raw], id=id_field)
    assert (first.created, again.created) == (True, False)
    assert (again.commit, again.rows, again.records, again.files) == (first.commit, 10, 10, 2)
    more = import_files(repo, "raw", [write_records(tmp_path / "c.jsonl", documents(5, 3, "third"))], id=id_field)
    assert (more.created, more.rows) == (True, 15)
    late = import_files(repo, "raw", [raw], id=id_field)
    assert (late.created, late.commit, late.rows) == (False, first.commit, 15)


def test_other_bytes_or_options_are_another_import(tmp_path: Path) -> None:
    """Catches: files known by name and size alone; options that do not count; a table that was replaced since."""
    raw = write_records(tmp_path / "a.jsonl", documents(5, 1))
    repo = Repository.create(tmp_path / "repository")
    import_files(repo, "raw", [raw])
    assert import_files(repo, "raw", [raw], on_bad_record="skip").rows == 10
    content = bytearray(raw.read_bytes())
    at = content.index(b'"text": "') + len(b'"text": "')
    content[at : at + 1] = b"#"
    raw.write_bytes(content)
    assert import_files(repo, "raw", [raw]).rows == 15
    job = write_job(tmp_path / "job.yaml", ("filter: {min_chars: 1}",), output="raw")
    build(repo, job)
    assert import_files(repo, "raw", [raw]).created


def test_imports_side_by_side_append_behind_each_other(tmp_path: Path) -> None:
    """Catches a conflict over rows that can stand together, rows that come before those already shown, an import that
    is done twice over, and a report of another table than the one committed."""
    repo = Repository.create(tmp_path / "repository")
    files = [write_records(tmp_path / f"{name}.jsonl", documents(6, seed, name)) for seed, name in enumerate("abcd")]
    import_files(repo, "raw", files[:1], id="id")
    seen: list[list[object]] = []

    def others(stage: str, done: int, total: int | None) -> None:
        if not seen:
            seen.append([])
            elsewhere = Repository.open(tmp_path / "repository")
            import_files(elsewhere, "raw", files[1:2], id="id")
            import_files(elsewhere, "raw", files[2:3], id="id")
            seen.append([*elsewhere.version("raw").parts()])

    report = import_files(repo, "raw", files[3:], id="id", progress=others)
    assert (report.created, report.records, report.rows) == (True, 6, 24)
    parts = [*repo.version("raw").parts()]
    assert parts[:3] == seen[1] and len(parts) == 4
    assert [commit.message for commit in repo.log()] == ["import raw"] * 4
    assert repo.verify().problems == []


@pytest.mark.parametrize(("id_field", "same_file"), [("id", True), (None, True), ("id", False), (None, False)])
def test_records_that_others_import_meanwhile_are_not_there_twice(
    tmp_path: Path, id_field: str | None, same_file: bool
) -> None:
    """The same files: nothing is added. Others with a record in common: a conflict, and run again, the usual answer."""
    repo = Repository.create(tmp_path / "repository")
    import_files(repo, "raw", [write_records(tmp_path / "old.jsonl", documents(6, 1, "old"))], id=id_field)
    mine = write_records(tmp_path / "mine.jsonl", documents(6, 2, "new"))
    theirs = mine if same_file else write_records(tmp_path / "theirs.jsonl", documents(6, 2, "new")[3:])
    begun: list[str] = []

    def others(stage: str, done: int, total: int | None) -> None:
        if not begun:
            begun.append(stage)
            elsewhere = Repository.open(tmp_path / "repository")
            if same_file:  # first another, so that the same shards come in a later generation
                other = write_records(tmp_path / "other.jsonl", documents(6, 3, "other"))
                import_files(elsewhere, "raw", [other], id=id_field)
            import_files(elsewhere, "raw", [theirs], id=id_field)

    if same_file:
        report = import_files(repo, "raw", [mine], id=id_field, progress=others)
        assert (report.created, report.rows, repo.version("raw").rows) == (False, 18, 18)
        return
    with pytest.raises(ConflictError, match="'raw' on main was changed"):
        import_files(repo, "raw", [mine], id=id_field, progress=others)
    if id_field is None:
        assert import_files(repo, "raw", [mine]).rows == 15


def test_an_append_to_a_table_that_was_replaced_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    """Catches rows put behind a table that is another one by now."""
    repo = Repository.create(tmp_path / "repository")
    import_files(repo, "raw", [write_records(tmp_path / "a.jsonl", documents(6, 1))])
    job = write_job(tmp_path / "job.yaml", ("filter: {min_chars: 1}",), output="raw")
    built: list[str] = []

    def others(stage: str, done: int, total: int | None) -> None:
        if not built:
            built.append(build(Repository.open(tmp_path / "repository"), job).commit)

    with pytest.raises(ConflictError, match="'raw' on main was changed"):
        import_files(repo, "raw", [write_records(tmp_path / "b.jsonl", documents(6, 2, "b"))], progress=others)
    assert repo.head() == built[0]
