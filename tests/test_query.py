"""SQL over tables at commits, and versions as Arrow and DuckDB objects."""

from __future__ import annotations

import gc
import signal
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError, PyfactoryError
from pyfactory.factory import import_files, query
from pyfactory.repo import tables
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from tests.corpora import documents_of, token_repository
from tests.raw_files import documents, write_records

LENGTHS = [5, 0, 7, 3, 9, 1]


@pytest.fixture(scope="module")
def repo() -> Repository:
    return token_repository(MemoryStore(), documents_of(LENGTHS, 1), [2, 3])


@pytest.fixture
def raw(tmp_path: Path) -> Repository:
    """Two imports into `raw`: ten records at v1, twenty at main."""
    repo = Repository.create(tmp_path / "repository")
    for seed, name in ((1, "a"), (2, "b")):
        path = write_records(tmp_path / f"{name}.jsonl", documents(10, seed, name))
        import_files(repo, "raw", [path], columns=["n:int64", "id"])
        if seed == 1:
            repo.tag("v1")
    return repo


def rows(repo: Repository, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in query(repo, sql).read_all().to_pylist()]


def test_names_say_table_and_moment(raw: Repository) -> None:
    """Catches: a ref that is not looked at; a name in a string or a comment that is taken for a table."""
    head = raw.head()
    raw.branch("team/x", "v1")
    for name, count in (("raw", 20), ('"raw@main"', 20), ('"raw@v1"', 10), ('"raw@team/x"', 10), ('"raw@tag/v1"', 10)):
        assert rows(raw, f"select count(*), count(distinct id) from {name}") == [(count, count)]
    assert rows(raw, f'select max(n) from "raw@{head}"') == rows(raw, f'select max(n) from "raw@{head[:10]}"') == [(9,)]
    assert rows(raw, 'select \'from "nothing@here"\' /* from "no@no" */ from "raw@v1" limit 1') == [
        ('from "nothing@here"',)
    ]
    assert rows(raw, 'with mine as (select n from "raw@v1" where n > 7) select * from mine order by n') == [(8,), (9,)]


def test_a_table_is_read_as_often_as_a_query_wants(raw: Repository) -> None:
    """Catches: a stream that is used up by the first of two scans."""
    both = 'from raw a join raw b using (id) join "raw@v1" c using (id)'
    assert rows(raw, f"select count(*), count(distinct a.text) {both}") == [
        (10, len({record["text"] for record in documents(10, 1, "a")}))
    ]


def test_results_are_the_records(raw: Repository) -> None:
    """Catches: a filter that is pushed down and not applied; rows in another order; origins of other rows."""
    expected = [*documents(10, 1, "a"), *documents(10, 2, "b")]
    found = rows(raw, "select text, n, id from raw")
    assert found == [(record["text"], record["n"], record["id"]) for record in expected]
    some = rows(raw, "select id, _line from raw where n >= 3 and n < 7 and text <> 'x' and _line > 4")
    assert some == [(r["id"], r["n"] + 1) for r in expected if 4 <= r["n"] < 7]
    version = raw.version("raw")
    by_file = rows(raw, "select _file, count(*), min(_line), max(_line) from raw group by 1 order by 1")
    from pyfactory.shard.reader import open_side

    sides = [open_side(raw.objects.map(part.side), "side") for part in version.parts()]
    assert by_file == sorted((side.files[0], 10, 1, 10) for side in sides)
    record = sides[1].id(3)
    assert rows(raw, f"select id from raw where _id = '{record}'") == [("b-3",)]


def test_unused_columns_cost_nothing(raw: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: side shards opened for a query that asks for none of their columns; all columns handed over."""
    asked: list[tuple[str, ...]] = []
    batches = tables.batches

    def listening(version: object, columns: list[str]) -> object:
        asked.append(tuple(columns))
        return batches(version, columns)  # type: ignore[arg-type]

    def never(*ignored: object, **also: object) -> None:
        raise AssertionError("a side was opened")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "batches", listening)
        patch.setattr(tables, "open_side", never)
        assert rows(raw, "select sum(n) from raw") == [(90,)]
        assert rows(raw, "select sum(n) from raw where id >= 'b'") == [(45,)]
        with pytest.raises(AssertionError, match="a side was opened"):
            rows(raw, "select count(*) from raw where _line = 1")
    assert asked == [("n",), ("n", "id"), ("text", "_line")] or asked[:2] == [("n",), ("n", "id")]


def test_shards_are_opened_one_at_a_time(raw: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a scan that opens all shards before it yields the first."""
    opened: list[object] = []
    open_shard = tables.open_shard

    def listening(*arguments: object) -> pa.RecordBatch:
        opened.append(arguments)
        return open_shard(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "open_shard", listening)
    found = tables.TableScan(raw.version("raw")).scanner(columns=["n"]).to_reader()
    assert opened == []
    found.read_next_batch()
    assert len(opened) == 1


def test_tokens(repo: Repository) -> None:
    lengths = [count for count in LENGTHS]
    assert rows(repo, 'select _id, len(tokens), _file, _line from "corpus@v1"') == [
        (f"doc-{number}", length, None, None) for number, length in enumerate(lengths)
    ]
    flat = rows(repo, "select unnest(tokens) t from corpus")
    assert [token for (token,) in flat] == np.concatenate(documents_of(LENGTHS, 1)).tolist()


@pytest.mark.parametrize(
    ("sql", "kind", "said"),
    [
        ("select * from corpsu", NotFoundError, "no table 'corpsu' at branch/main (did you mean corpus?)"),
        ('select * from "corpus@v2"', NotFoundError, "'v2' (did you mean v1?)"),
        ("select wrong from corpus", InvalidInputError, 'column "wrong" not found'),
        ("select x y z from corpus", InvalidInputError, "syntax error"),
        ("", InvalidInputError, "0 SQL statements"),
        ("select 1; select 2", InvalidInputError, "2 SQL statements"),
        ("insert into corpus values (1)", InvalidInputError, "not a query"),
        ("copy (select 1) to 'out.csv'", InvalidInputError, "not a query"),
        ("attach 'x.db'", InvalidInputError, "not a query"),
        ("set enable_external_access = true", InvalidInputError, "not a query"),
        ("select * from read_csv('/etc/passwd')", InvalidInputError, "disabled by configuration"),
        ("select * from read_text('/etc/passwd')", InvalidInputError, "disabled by configuration"),
        ("select * from '/etc/passwd'", NotFoundError, "no table '/etc/passwd'"),
        ("select * from glob('/*')", InvalidInputError, "disabled by configuration"),
        ("select * from repo", NotFoundError, "no table 'repo'"),
        ("select error('boom')", InvalidInputError, "boom"),
        ('select 1 from corpus, "Corpus"', InvalidInputError, "for one name"),
        ("select '\ud800'", InvalidInputError, "not valid Unicode"),
    ],
)
def test_refusals(repo: Repository, sql: str, kind: type[PyfactoryError], said: str) -> None:
    """Catches: a query that reaches a file, a variable of the program or another statement; unclear errors."""
    with pytest.raises(kind) as caught:
        query(repo, sql).read_all()
    assert said in str(caught.value)
    assert type(caught.value) is kind


def test_nothing_is_left_behind(raw: Repository) -> None:
    """Catches: folders for spilling that stay when a result is dropped half-way, or a query fails."""
    before = sorted(raw.store.staging().iterdir())
    reader = query(raw, "select * from raw")
    reader.read_next_batch()
    del reader
    with pytest.raises(NotFoundError):
        query(raw, "select * from nothing")
    gc.collect()
    assert sorted(raw.store.staging().iterdir()) == before


def test_a_damaged_shard_is_told_as_such(raw: Repository) -> None:
    """Catches: an error of a scan that comes out as a mistake in the SQL."""
    part = next(raw.version("raw").parts())
    path = raw.store.path(raw.objects.key(part.shard))
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptError, match=part.shard):
        query(raw, "select sum(n) from raw").read_all()


def test_ctrl_c_stops_a_query(repo: Repository) -> None:
    """Catches: a query that is waited for however long it takes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sql = "select count(*) from range(100000000) a(x), range(100000) b(y) where x * y = 5 and x + y = 7"
    began = time.monotonic()
    timer = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            query(repo, sql).read_all()
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 20


def test_arrow_is_the_content_in_place(raw: Repository) -> None:
    """Catches: content that is copied; columns that no shard holds."""
    version = raw.version("raw")
    table = version.to_arrow()
    assert table.schema.equals(version.schema)
    assert table.num_rows == 20 and table.column("n").num_chunks == 2
    assert table.column("id").to_pylist() == [
        record["id"] for seed, name in ((1, "a"), (2, "b")) for record in documents(10, seed, name)
    ]
    before = pa.total_allocated_bytes()
    held = version.to_arrow()
    assert pa.total_allocated_bytes() - before < 1000
    assert held.equals(table)


def test_empty_table_and_table_without_sides() -> None:
    from pyfactory.core.digest import NO_DIGEST
    from pyfactory.repo.objects import TableState
    from pyfactory.shard.layout import raw_schema, schema_to_value
    from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
    from pyfactory.shard.writer import encode_shard

    repo = Repository.create(MemoryStore())
    schema = raw_schema([pa.field("_id", pa.int64())])
    shard = encode_shard(pa.RecordBatch.from_pydict({"text": ["a", "b"], "_id": [7, None]}, schema=schema))
    part = Part(repo.objects.put(memoryview(shard)), NO_DIGEST, 2, 0, shard.size)
    for name, parts in (("none", []), ("bare", [part])):
        root = write_manifest(repo.objects, new_batch(parts, 1))
        manifest = Manifest(repo.objects, root)
        columns = tuple((n, t, nullable) for n, t, nullable in schema_to_value(schema))
        counts = (manifest.rows, 0, manifest.nbytes, manifest.shards)
        repo.commit({name: TableState(root, columns, *counts, {}, {})}, message=name)
    assert rows(repo, "select count(*) from none") == [(0,)]
    assert repo.version("none").to_arrow().num_rows == 0
    assert rows(repo, "select * from bare") == [("a", 7, None, None), ("b", None, None, None)]


def test_relations(repo: Repository) -> None:
    """Catches: a relation that dies with what made it, or can be used only once."""
    version = repo.version("corpus", "v1")
    relation = version.to_duckdb()
    gc.collect()
    for _ in range(2):
        assert relation.aggregate("count(*), sum(len(tokens))").fetchall() == [(6, sum(LENGTHS))]
    connection = duckdb.connect()
    mine = version.to_duckdb(connection)
    mine.create_view("c")
    assert connection.sql("select _id from c where len(tokens) = 7").fetchall() == [("doc-2",)]


def test_what_is_read_is_leased(raw: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a query or an export whose commit a sweep may take; leases that stay; a query that needs to write."""
    from pyfactory.factory import querying
    from pyfactory.repo.leases import all_leases

    reader = query(raw, 'select a.n from raw a, "raw@v1" b')
    assert {lease.commit for lease in all_leases(raw)} == {raw.head(), raw.tags()["v1"]}
    del reader
    gc.collect()
    assert [*all_leases(raw)] == []

    def denied(*ignored: object, **also: object) -> str:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(querying.tempfile, "mkdtemp", denied)
    assert rows(raw, "select count(*) from raw") == [(20,)]
