"""Datasets of the library `datasets` as tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfactory.core import canonical
from pyfactory.errors import BadRecordError, InvalidInputError, UnavailableError
from pyfactory.factory import import_dataset, import_files, query
from pyfactory.repo.repository import Repository
from pyfactory.shard.importers import import_sources
from pyfactory.shard.importers.hugging_face import import_rows
from pyfactory.store.memory import MemoryStore
from tests.raw_files import documents, write_records

COLUMNS = ["n:int64", "lang", "score:double"]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, kept from the network and the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("datasets")


def records(count: int = 40) -> list[dict[str, Any]]:
    return [
        record | {"lang": None if number % 3 else "en", "score": number / 4}
        for number, record in enumerate(documents(count, 5))
    ]


def as_dataset(datasets: Any, rows: list[dict[str, Any]]) -> Any:
    return datasets.Dataset.from_list(rows)


@pytest.mark.parametrize("options", [{}, {"id": "id"}])
def test_the_same_rows_give_the_same_shards(datasets: Any, tmp_path: Path, options: dict[str, str]) -> None:
    """Catches: another type, cut, id or null than an import of JSON lines gives."""
    rows = records()
    repo = Repository.create(MemoryStore())
    source = write_records(tmp_path / "a.jsonl", rows)
    chosen: dict[str, Any] = {"columns": COLUMNS, "target_bytes": 4000, **options}
    expected = import_sources(repo.objects, [source], **chosen)
    assert len(expected.parts) > 3
    dataset = as_dataset(datasets, rows)

    def generated() -> Iterator[dict[str, Any]]:
        yield from rows

    for found in (
        dataset,
        dataset.to_iterable_dataset(),
        datasets.IterableDataset.from_generator(generated),
        dataset.with_format("numpy"),
        datasets.concatenate_datasets([dataset.select(range(7)), dataset.select(range(7, 40))]),
    ):
        imported = import_rows(repo.objects, found, **chosen)
        assert imported is not None
        assert [part.shard for part in imported.parts] == [part.shard for part in expected.parts]
        assert imported.schema.equals(expected.schema)


def test_ids_and_no_origin(datasets: Any, tmp_path: Path) -> None:
    """Catches: a fingerprint that passes for the digest of a file; ids unlike those of other imports."""
    rows = records()
    repo = Repository.create(MemoryStore())
    import_files(repo, "lines", [write_records(tmp_path / "a.jsonl", rows)], columns=COLUMNS)
    dataset = as_dataset(datasets, rows)
    report = import_dataset(repo, "rows", dataset, columns=COLUMNS)
    assert (report.records, report.rows, report.files, report.created) == (40, 40, 0, True)
    ids = [query(repo, f"select _id from {name}").read_all().to_pydict() for name in ("lines", "rows")]
    assert ids[0] == ids[1]
    assert query(repo, "select count(_file), count(_line) from rows").read_all().to_pylist() == [
        {"count(_file)": 0, "count(_line)": 0}
    ]
    made_by = repo.load(repo.head()).made_by or {}
    assert made_by["kind"] == "import" and made_by["dataset"]["fingerprint"] == dataset._fingerprint
    (source,) = canonical.decode(repo.objects.get(made_by["sources"]), "sources")
    assert (source["name"], source["records"]) == ("dataset", 40)


def test_an_import_may_be_run_again(datasets: Any) -> None:
    """Catches: the same rows added twice; other rows or ids taken for the same ones."""
    repo = Repository.create(MemoryStore())
    rows = records()
    first = import_dataset(repo, "rows", as_dataset(datasets, rows), id="id")
    again = import_dataset(repo, "rows", as_dataset(datasets, rows).to_iterable_dataset(), id="id")
    assert (again.created, again.commit, again.records, again.rows) == (False, first.commit, 40, 40)
    renamed = [row | {"id": f"other {row['id']}"} for row in rows]
    more = import_dataset(repo, "rows", as_dataset(datasets, renamed), id="id")
    assert (more.created, more.rows) == (True, 80)
    with pytest.raises(InvalidInputError, match="is in the table already"):
        import_dataset(repo, "rows", as_dataset(datasets, rows[:5]), id="id")
    assert repo.version("rows").rows == 80


def test_refusals(datasets: Any, tmp_path: Path) -> None:
    """Catches: a commit over an error; a list of splits that is not told."""
    repo = Repository.create(MemoryStore())
    rows = records()
    good = as_dataset(datasets, rows)
    holes = as_dataset(datasets, [*rows[:3], rows[3] | {"text": None}])

    def broken() -> Iterator[dict[str, Any]]:
        yield rows[0]
        raise RuntimeError("the stream broke")

    def untyped() -> Iterator[dict[str, Any]]:
        yield {"text": "a", "n": "x"}

    for dataset, options, kind, said in (
        (datasets.DatasetDict({"train": good, "test": good}), {}, InvalidInputError, "'train', 'test'"),
        (rows, {}, InvalidInputError, "list is not a dataset"),
        (good, {"text": "txet"}, InvalidInputError, "'text'"),
        (good, {"text": "n"}, InvalidInputError, "is int64"),
        (good, {"columns": ["nope"]}, InvalidInputError, "no column 'nope'"),
        (good, {"columns": ["n:string"]}, InvalidInputError, "int64, not string"),
        (good, {"id": "score"}, InvalidInputError, "is double"),
        (holes, {}, BadRecordError, "dataset:4: field 'text' is null"),
        (as_dataset(datasets, [*rows, rows[0]]), {"id": "id"}, InvalidInputError, "dataset:1 and dataset:41"),
        (datasets.IterableDataset.from_generator(broken), {}, UnavailableError, "the stream broke"),
        (datasets.IterableDataset.from_generator(untyped), {"columns": ["n:int64"]}, InvalidInputError, "not int64"),
        (datasets.IterableDataset.from_generator(untyped), {"id": "x"}, InvalidInputError, "no column 'x'"),
        (good.select([]), {}, InvalidInputError, "nothing to import"),
    ):
        with pytest.raises(kind) as caught:
            import_dataset(repo, "rows", dataset, **options)
        assert said in str(caught.value), str(caught.value)
    assert repo.branches() == {}
