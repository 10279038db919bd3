"""Versions and results as files of others, and back."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyfactory.core import canonical
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError, ReadOnlyError
from pyfactory.factory import export, import_files, query
from pyfactory.factory.exporting import write_csv, write_parquet
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.importers import import_sources
from pyfactory.shard.manifest import new_batch, write_manifest
from tests.raw_files import documents, small_repository, write_records

COLUMNS = ["n:int64", "id"]


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """`raw` in five shards."""
    repo = Repository.create(tmp_path / "repository")
    for number in range(5):
        path = write_records(tmp_path / f"{number}.jsonl", documents(8, number, f"f{number}"))
        import_files(repo, "raw", [path], columns=COLUMNS)
    return repo


def members(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_a_row_group_per_shard_and_says_what_it_is(repo: Repository, tmp_path: Path) -> None:
    """Catches: rows out of order; identities that name a place; ids that are not those of the records."""
    version = repo.version("raw")
    report = export(version, tmp_path / "out.parquet", ids=True)
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.metadata.num_row_groups == version.shards == 5
    assert (report.rows, report.files, report.nbytes) == (40, 1, (tmp_path / "out.parquet").stat().st_size)
    table = file.read()
    assert table.select(version.schema.names).replace_schema_metadata().equals(version.to_arrow())
    told = query(repo, "select _id, _file, _line from raw").read_all()
    assert table.select(["_id", "_file", "_line"]).to_pydict() == told.to_pydict()
    identity = canonical.decode(table.schema.metadata[b"pyfactory"], "identity")
    wanted = {"table": "raw", "commit": version.commit, "version": version.digest, "tokenizer": None, "v": 1}
    assert identity == wanted
    assert str(tmp_path).encode() not in (tmp_path / "out.parquet").read_bytes()
    export(version, tmp_path / "again.parquet", ids=True)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


def test_round_trip(tmp_path: Path) -> None:
    """Parquet of a table, imported again, gives the same content shards and the same ids.

    Catches: types that widen on the way (text, uint16 lists excepted), nulls that become values.
    """
    repo = Repository.create(tmp_path / "repository")
    records = [record | ({} if number % 3 else {"n": None}) for number, record in enumerate(documents(80, 3))]
    source = write_records(tmp_path / "a.jsonl", records)
    first = import_sources(repo.objects, [source], columns=COLUMNS, target_bytes=4000)
    assert len(first.parts) > 5
    version = _committed(repo, "raw", first.parts, first.schema)
    export(version, tmp_path / "out", ids=True, file_bytes=10_000)
    assert len(members(tmp_path / "out")) > 1
    for sources in ([tmp_path / "out.parquet"], [tmp_path / "out"]):
        export(version, tmp_path / "out.parquet", ids=True, overwrite=True)
        for options in ({}, {"id": "_id"}):
            again = import_sources(repo.objects, sources, columns=COLUMNS, target_bytes=4000, **options)
            if len(sources[0].suffix):
                assert [part.shard for part in again.parts] == [part.shard for part in first.parts]
            held = _committed(repo, "again", again.parts, again.schema)
            assert held.to_arrow().equals(version.to_arrow())
            ids = [query(repo, f"select _id from {name}").read_all().to_pydict() for name in ("raw", "again")]
            assert ids[0] == ids[1]


def _committed(repo: Repository, table: str, parts: list, schema: pa.Schema) -> Version:  # type: ignore[type-arg]
    from pyfactory.factory.tables import replaced, schema_value

    assert write_manifest(repo.objects, new_batch(parts, 1))
    repo.commit({table: replaced(repo, parts, schema_value(schema), {}, {})}, message="test")
    return repo.version(table)


def test_tokens_with_their_tokenizer(tmp_path: Path) -> None:
    repo = small_repository(tmp_path, 20)
    version = repo.version("corpus")
    export(version, tmp_path / "out")
    table = pq.read_table(tmp_path / "out")
    assert table.column("tokens").to_pylist() == version.to_arrow().column("tokens").to_pylist()
    assert table.schema.field("tokens").type.value_type == pa.uint16()
    (part,) = members(tmp_path / "out")
    told = canonical.decode(pq.read_schema(tmp_path / "out" / part).metadata[b"pyfactory"], "identity")
    assert told["tokenizer"] == version.artifacts["tokenizer"]


def test_what_is_there_stays(repo: Repository, tmp_path: Path) -> None:
    """Catches: a file of the user that an export replaces or removes."""
    version = repo.version("raw")
    folder, file = tmp_path / "out", tmp_path / "out.parquet"
    export(version, folder)
    export(version, file)
    for target in (folder, file):
        with pytest.raises(InvalidInputError, match="is there already"):
            export(version, target)
        export(version, target, overwrite=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="something else than an export"):
        export(version, folder, overwrite=True)
    with pytest.raises(InvalidInputError, match=r"0\.jsonl is a file"):
        export(version, tmp_path / "0.jsonl", overwrite=True)
    with pytest.raises(NotFoundError):
        export(version, tmp_path / "absent" / "out")
    (tmp_path / "fresh").mkdir()
    export(version, tmp_path / "fresh")
    assert members(folder) == ["mine.txt", "part-00000.parquet"]
    assert not [name for name in members(tmp_path) if name.startswith(".")]


def test_an_export_that_fails_leaves_what_was_there(repo: Repository, tmp_path: Path) -> None:
    """Catches: half a file under the name that was asked for; leftovers."""
    version = repo.version("raw")
    export(version, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    damaged = [*version.parts()][-1]
    path = repo.store.path(repo.objects.key(damaged.shard))
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])
    for target in ("out", "new", "new.parquet"):
        with pytest.raises(CorruptError):
            export(version, tmp_path / target, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [name for name in members(tmp_path) if "new" in name or name.startswith(".")] == []


_FULL = """
import resource, sys
from pyfactory.errors import UnavailableError
from pyfactory.factory import export
from pyfactory.repo.repository import Repository
version = Repository.open(sys.argv[1]).version("raw")
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for target in ("full.parquet", "full"):
    try:
        export(version, sys.argv[2] + "/" + target)
    except UnavailableError as error:
        print(error)
"""


def test_a_full_disk_leaves_nothing(repo: Repository, tmp_path: Path) -> None:
    """Catches: an error of Arrow instead of ours; a part that stays."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] != 0
    command = [sys.executable, "-c", _FULL, str(tmp_path / "repository"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.count("no space left on the disk") == 2, done.stdout + done.stderr
    assert [name for name in members(tmp_path) if "full" in name] == []


def test_results_of_queries(repo: Repository, tmp_path: Path) -> None:
    """Catches: a result that replaces a file before it is whole."""
    write_csv(query(repo, "select n, id, 1.5 d, null x from raw where n < 2 order by id"), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[:3] == ['"n","id","d","x"', '0,"f0-0",1.5,', '1,"f0-1",1.5,']
    before = (tmp_path / "a.csv").read_bytes()
    with pytest.raises(InvalidInputError, match="column 'l' is a list"):
        write_csv(query(repo, "select [n] l from raw"), tmp_path / "a.csv")
    with pytest.raises(InvalidInputError, match="boom"):
        sql = "select if(i = 99999, error('boom'), i) i from range(100000) t(i)"
        write_csv(query(repo, sql), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == before
    write_parquet(query(repo, "select [n] l, sum(n) s from raw group by n order by n"), tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").column("l").to_pylist() == [[n] for n in range(8)]
    assert not [name for name in members(tmp_path) if name.startswith(".")]


def test_where_nothing_can_be_written_the_target_is_named(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the name of an unfinished file in a message, and a second error in place of the first."""
    with pytest.raises(NotFoundError, match=f"{tmp_path}/nowhere/out.parquet: no such file or folder"):
        export(repo.version("raw"), tmp_path / "nowhere" / "out.parquet")

    def refusing(usual: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Path, *said: Any, **named: Any) -> Any:
            if path.suffix in (".part", ".old"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return usual(path, *said, **named)

        return refused

    for name in ("open", "unlink"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    with pytest.raises(ReadOnlyError, match=r"/out\.parquet: the file system is read-only.*mount it for writing"):
        export(repo.version("raw"), tmp_path / "out.parquet")
