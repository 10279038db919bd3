"""A version: one table at one commit, with everything needed to read it and to name it for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from pyfactory.core.digest import Digest
from pyfactory.repo.home import Home
from pyfactory.repo.objects import TableState
from pyfactory.repo.resolve import Resolved
from pyfactory.shard.layout import schema_from_value
from pyfactory.shard.manifest import Manifest, Part

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from pyfactory.repo.record_index import RecordIndex

__all__ = ["Version"]


@dataclass(frozen=True)
class Version:
    """One table at one commit. A value: it stays what it is while branches move.

    Attributes:
        repository: Where it comes from.
        table: Name of the table.
        state: What the table is there.
        resolved: The name that was asked for, what it stood for, and the commit.
    """

    repository: Home
    table: str
    state: TableState
    resolved: Resolved

    @cached_property
    def digest(self) -> Digest:
        """The version digest, which names content, schema and attributes."""
        return self.state.digest

    @property
    def commit(self) -> Digest:
        """The commit."""
        return self.resolved.commit

    @property
    def ref(self) -> str:
        """The full name that was resolved: `branch/NAME`, `tag/NAME` or a commit digest."""
        return self.resolved.ref

    @property
    def asked(self) -> str:
        """The name that was asked for."""
        return self.resolved.asked

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.state.rows

    @property
    def tokens(self) -> int:
        """Tokens of the table; 0 in a raw table."""
        return self.state.tokens

    @property
    def shards(self) -> int:
        """Content shards of the table."""
        return self.state.shards

    @property
    def nbytes(self) -> int:
        """Bytes of all content shards."""
        return self.state.nbytes

    @property
    def artifacts(self) -> Mapping[str, Digest]:
        """Objects that belong to the table, by name."""
        return self.state.artifacts

    @property
    def attributes(self) -> Mapping[str, int | str]:
        """Facts about the table, by name."""
        return self.state.attributes

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        columns = [list(column) for column in self.state.schema]
        return schema_from_value(columns, f"table {self.table!r} of commit {self.commit}")

    @cached_property
    def manifest(self) -> Manifest:
        """The shards of the table; the first access reads the root node."""
        return Manifest(self.repository.objects, self.state.manifest)

    @cached_property
    def record_index(self) -> RecordIndex:
        """Where its records are; the first look-up opens it, and makes what is missing of it."""
        from pyfactory.repo.record_index import RecordIndex  # here: most readers look for no record

        return RecordIndex(self.repository, self.manifest, self.table)

    def parts(self) -> Iterator[Part]:
        """Yield the shards in order."""
        return self.manifest.parts()

    def to_arrow(self) -> pa.Table:
        """Return the whole content as an Arrow table, a chunk per shard, over memory maps: nothing is copied.

        On a remote store the shards are fetched into memory. O(shards) time.

        Raises:
            CorruptError: A shard is damaged, or not what the table says.
            NotFoundError: A shard is gone.
        """
        from pyfactory.repo.tables import arrow_table

        return arrow_table(self)

    def to_duckdb(self, connection: DuckDBPyConnection | None = None) -> DuckDBPyRelation:
        """Return the table as a relation of DuckDB, read shard by shard whenever a query runs, without copying.

        It also has the columns `_id`, `_file` and `_line`: see docs/interchange.md.

        Args:
            connection: Where the relation is to be used; by default a new one in memory.
        """
        from pyfactory.repo.sql import relation

        return relation(self, connection)
