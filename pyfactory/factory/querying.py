"""SQL over tables at commits: a query reads memory-mapped shards, and nothing else on the machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError, ReadOnlyError
from pyfactory.repo.leases import Held, reading
from pyfactory.repo.names import suggestion
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.resolve import Resolved, resolve
from pyfactory.repo.sql import closed_connection, named_tables, sql_errors
from pyfactory.repo.tables import TableScan
from pyfactory.repo.version import Version

__all__ = ["query"]

_BATCH_ROWS = 8192

Outcome = TypeVar("Outcome")


def query(repo: Repository, sql: str) -> pa.RecordBatchReader:
    """Run a query over tables of a repository and return its rows as they come.

    A table is named `table` (at main) or `"table@ref"`, where ref is a branch, tag or commit digest; all names of one
    query are looked up at the same moment. Beside its own columns, a table has `_id`, `_file` and `_line`. Shards are
    opened one at a time and only the columns that are used are read, so memory does not grow with the tables; what a
    sort or a join cannot hold goes to the disk. The query cannot read files, the network or variables.

    Args:
        repo: The repository.
        sql: One SELECT, in the dialect of DuckDB.

    Returns:
        The rows; `read_all()` makes a table of them. Reading it may raise what this function raises.

    Raises:
        InvalidInputError: The SQL is not valid, or is no query.
        NotFoundError: There is no such table or ref; the hint names near ones.
        CorruptError: A shard is damaged.
        UnavailableError: Memory and disk do not suffice.
    """
    running = _run(repo, sql)
    schema = next(running)
    return pa.RecordBatchReader.from_batches(schema, running)


def _run(repo: Repository, sql: str) -> Generator[Any]:
    """Yield the schema of the result, then its batches."""
    with _temporary_folder(repo) as folder, _Session(folder) as session:
        names = session.call(lambda connection: named_tables(connection, sql))
        tables = _Tables(repo)
        scans, missing = _found(tables, names)
        for name, scan in scans.items():
            session.connection.register(name, scan)
        with _kept(repo, tables.commits) as leases, _explained(scans, missing):
            rows = session.call(lambda connection: connection.sql(sql).to_arrow_reader(_BATCH_ROWS))
            yield rows.schema
            while (batch := session.call(lambda connection: next(rows, None))) is not None:
                yield batch
                for lease in leases:
                    lease.renew_if_due()


@contextmanager
def _temporary_folder(repo: Repository) -> Iterator[Path | None]:
    """Give a folder for what does not fit into memory, which goes when the block ends; None if there can be none."""
    try:
        staging = repo.store.staging()
        with translate_os_error(staging):
            folder = Path(tempfile.mkdtemp(prefix="query-", dir=staging))
    except ReadOnlyError:
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept(repo: Repository, commits: Iterable[Digest]) -> Iterator[list[Held]]:
    """Let no sweep take what is read."""
    with ExitStack() as stack:
        held = [reading(repo, commit, "query") for commit in commits]
        yield [stack.enter_context(one) for one in held if one is not None]


class _Session:
    """A connection whose calls run in a thread of their own, so that Ctrl-C is heard while DuckDB works."""

    def __init__(self, folder: Path | None) -> None:
        self.connection = closed_connection(folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pyfactory-sql")

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.connection.interrupt()
        self._thread.shutdown(wait=True)
        self.connection.close()

    def call(self, function: Callable[[Any], Outcome]) -> Outcome:
        """Return what a function of the connection returns, or stop it when this thread is interrupted."""
        future = self._thread.submit(function, self.connection)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                self.connection.interrupt()
                future.exception()  # waits: nobody may work with a connection that is being closed
            raise


def _found(tables: _Tables, names: list[str]) -> tuple[dict[str, TableScan], dict[str, PyfactoryError]]:
    """Return scans of the tables that names stand for, and why the others stand for none.

    The latter may be names that the query gives itself, which DuckDB knows.
    """
    folded: dict[str, str] = {}
    for name in names:
        if folded.setdefault(name.casefold(), name) != name:
            first = folded[name.casefold()]
            raise InvalidInputError(f"SQL takes {first!r} and {name!r} for one name", hint="use one of them at a time")
    scans: dict[str, TableScan] = {}
    missing: dict[str, PyfactoryError] = {}
    for name in names:
        try:
            scans[name] = TableScan(tables.version(name))
        except (NotFoundError, InvalidInputError) as error:
            missing[name] = error
    return scans, missing


class _Tables:
    """Tables by `table@ref`, all at the refs of one moment."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._view = repo.view()
        self._commits: dict[str, tuple[Resolved, Mapping[str, TableState]]] = {}

    @property
    def commits(self) -> set[Digest]:
        """The commits that names stood for so far."""
        return {resolved.commit for resolved, _ in self._commits.values()}

    def version(self, name: str) -> Version:
        """Return the version that a name stands for."""
        table, _, ref = name.partition("@")
        resolved, tables = self._at(ref or "main")
        if table not in tables:
            raise NotFoundError(f"there is no table {table!r} at {resolved.ref}", hint=suggestion(table, tables))
        return Version(self._repo, table, tables[table], resolved)

    def _at(self, ref: str) -> tuple[Resolved, Mapping[str, TableState]]:
        if ref not in self._commits:
            resolved = resolve(self._repo.oplog, self._repo.objects, self._view, ref, strict=False)
            self._commits[ref] = resolved, self._repo.tables(resolved.commit)
        return self._commits[ref]


@contextmanager
def _explained(scans: Mapping[str, TableScan], missing: Mapping[str, PyfactoryError]) -> Iterator[None]:
    """Raise, in place of what DuckDB says, what stopped a scan or why a table was not found."""
    try:
        with sql_errors():
            yield
    except PyfactoryError as error:
        for scan in scans.values():
            if scan.failure is not None:
                raise scan.failure from error
        for name, reason in missing.items():
            if f"Table with name {name} does not exist" in error.message:
                raise reason from error
        raise
