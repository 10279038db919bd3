"""Where an import adds records: a table as it was when the import began, and the commit that adds to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress
from pyfactory.errors import InvalidInputError
from pyfactory.factory.tables import SchemaValue, appended, publish, schema_value
from pyfactory.repo.forgotten import refuse_forgotten
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import CommitResult, Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers import SideSource
from pyfactory.shard.importers.selection import JSON_TYPES
from pyfactory.shard.layout import TEXT
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.reader import Side, open_side

__all__ = ["Destination"]


@dataclass(frozen=True)
class Destination:
    """A table to add to, and what the commit that adds to it says.

    Attributes:
        repo: The repository.
        table: Name of the table.
        branch: Where to commit.
        head: The commit that the branch named at first, or `NO_DIGEST`.
        state: The table there, None if it is new.
        message: Why, for the log.
        author: Who.
        signer: Signs the commit.
    """

    repo: Repository
    table: str
    branch: str
    head: Digest
    state: TableState | None
    message: str
    author: str
    signer: Signer | None

    @classmethod
    def find(
        cls, repo: Repository, table: str, branch: str, *, message: str, author: str, signer: Signer | None
    ) -> Destination:
        """Look at a table, and whether a commit can be made there: now, rather than after the work.

        Raises:
            InvalidInputError: The name or the message is wrong.
            RefusedError: A rule of the branch forbids it.
        """
        check_table_name(table)
        check_text(message, "message")
        repo.check_takes_commits(branch, author=author, signer=signer)
        head = repo.head(branch)
        state = None if head == NO_DIGEST else repo.tables(head).get(table)
        return cls(repo, table, branch, head, state, message or f"import {table}", author, signer)

    @cached_property
    def manifest(self) -> Manifest | None:
        """The shards that the table has."""
        return None if self.state is None else Manifest(self.repo.objects, self.state.manifest)

    def sides(self) -> Iterator[SideSource]:
        """Yield what opens the side shards of the table, one at a time."""
        for part in () if self.manifest is None else self.manifest.parts():
            yield partial(self._side, part.side)

    def writing(self, progress: Progress) -> AbstractContextManager[Progress]:
        """Hold a writer's lease; see `leases.writing`."""
        return writing(self.repo, f"import of {self.table} by {self.author}", progress)

    def check_columns(self, schema: pa.Schema) -> None:
        """Raise InvalidInputError if the table is there and has other columns."""
        columns = schema_value(schema)
        if self.state is not None and self.state.schema != columns:
            raise InvalidInputError(
                f"table {self.table!r} has the columns {_listed(self.state.schema)} and the import {_listed(columns)}",
                hint=_remedy(self.state.schema),
            )

    def refuse_forgotten(self, parts: Sequence[Part]) -> None:
        """Raise RefusedError if shards hold a record that was forgotten."""
        refuse_forgotten(self.repo, parts, self.author, f"import to {self.table} on {self.branch}")

    def add(
        self, parts: Sequence[Part], schema: SchemaValue, made_by: Mapping[str, Any], **facts: Any
    ) -> tuple[CommitResult, TableState]:
        """Commit the table with shards added, and return it as it is then: others may have added to it as well.

        Args:
            parts: The shards.
            schema: Columns of the table.
            made_by: What the commit says of how it was made.
            facts: Artifacts and attributes of the table.

        Raises:
            ConflictError: Somebody else changed the table meanwhile.
        """
        after = appended(self.repo, self.manifest, parts, schema, **facts)
        told = {"message": self.message, "author": self.author, "signer": self.signer, "made_by": made_by}
        done = publish(self.repo, self.table, self.state, after, self.head, self.branch, **told)
        return done, self.repo.tables(done.digest)[self.table]

    def _side(self, digest: Digest) -> Side:
        return open_side(self.repo.objects.map(digest), f"the side {digest} in {self.repo.url}")


def _remedy(schema: SchemaValue) -> str:
    """Return the hint that gives a table's columns as the option to type; one of tokens has none."""
    columns = {name: kind for name, kind, _ in schema}
    if columns.pop(TEXT, None) is None:
        return "choose another table"
    types = {str(type_): name for name, type_ in JSON_TYPES.items()}
    # A string is what a name alone stands for, and a type that cannot be named is that of the Parquet file.
    said = [f"{name}:{types[kind]}" if kind in types and kind != "string" else name for name, kind in columns.items()]
    first = f"give --columns {shlex.quote(','.join(said))}" if said else "leave --columns out"
    return f"{first}, or choose another table"


def _listed(schema: SchemaValue) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, _ in schema)
