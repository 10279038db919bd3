"""From shards to the state of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import ConflictError
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import CommitResult, Repository
from pyfactory.shard.layout import schema_to_value
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest

__all__ = ["SchemaValue", "appended", "publish", "replaced", "schema_value"]

SchemaValue = tuple[tuple[str, str, bool], ...]

_TRIES = 20

_NONE: Mapping[str, Any] = {}


def schema_value(schema: pa.Schema) -> SchemaValue:
    """Return a schema as a tree holds it."""
    return tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(schema))


def appended(
    repo: Repository,
    old: Manifest | None,
    parts: Sequence[Part],
    schema: SchemaValue,
    artifacts: Mapping[str, Digest] = _NONE,
    attributes: Mapping[str, int | str] = _NONE,
) -> TableState:
    """Return a table with shards added behind those it has."""
    if old is None or not old.shards:
        return replaced(repo, parts, schema, artifacts, attributes)
    # One later than the last row's, so that what is appended never sorts before older rows.
    root = extend_manifest(repo.objects, old.root, new_batch(parts, old.last_generation + 1))
    return _state(repo, root, schema, artifacts, attributes)


def replaced(
    repo: Repository,
    parts: Sequence[Part],
    schema: SchemaValue,
    artifacts: Mapping[str, Digest],
    attributes: Mapping[str, int | str],
) -> TableState:
    """Return a table of these shards alone."""
    return _state(repo, write_manifest(repo.objects, new_batch(parts, 1)), schema, artifacts, attributes)


def publish(
    repo: Repository, table: str, before: TableState | None, after: TableState, head: Digest, branch: str, **told: Any
) -> CommitResult:
    """Commit a new state of one table, also when others have committed other tables to the branch meanwhile.

    Args:
        repo: The repository.
        table: Its name.
        before: Its state at `head`, None if it is new: what `after` was made from.
        after: Its new state.
        head: The commit that was read.
        branch: Where to commit.
        told: What `Repository.commit` records: message, author, made_by.

    Raises:
        ConflictError: The table itself was changed meanwhile.
    """
    for _ in range(_TRIES):
        try:
            return repo.commit({table: after}, branch, expected_head=head, **told)
        except ConflictError as conflict:
            head = repo.head(branch)
            if (None if head == NO_DIGEST else repo.tables(head).get(table)) != before:
                raise ConflictError(
                    f"table {table!r} on {branch} was changed by somebody else meanwhile: {conflict.message}",
                    hint="look at pyfactory log, then run it again",
                ) from conflict
    raise ConflictError(f"{branch} moves faster than table {table!r} can be committed", hint="run it again")


def _state(
    repo: Repository,
    root: Digest,
    schema: SchemaValue,
    artifacts: Mapping[str, Digest],
    attributes: Mapping[str, int | str],
) -> TableState:
    manifest = Manifest(repo.objects, root)
    return TableState(
        manifest=root,
        schema=schema,
        rows=manifest.rows,
        tokens=manifest.tokens,
        nbytes=manifest.nbytes,
        shards=manifest.shards,
        artifacts=artifacts,
        attributes=attributes,
    )
