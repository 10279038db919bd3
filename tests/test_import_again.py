"""An import that is run again, whatever became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
