"""From shards to the state of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pyfactory.core.digest import Digest
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import schema_to_value
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest

__all__ = ["SchemaValue", "appended", "replaced", "schema_value"]

SchemaValue = tuple[tuple[str, str, bool], ...]


def schema_value(schema: pa.Schema) -> SchemaValue:
    """Return a schema as a tree holds it."""
    return tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(schema))


def appended(repo: Repository, old: Manifest | None, parts: Sequence[Part], schema: SchemaValue) -> TableState:
    """Return a table with shards added behind those it has."""
    if old is None or not old.shards:
        return replaced(repo, parts, schema, {}, {})
    # One later than the last row's, so that what is appended never sorts before older rows.
    root = extend_manifest(repo.objects, old.root, new_batch(parts, old.last_generation + 1))
    return _state(repo, root, schema, {}, {})


def replaced(
    repo: Repository,
    parts: Sequence[Part],
    schema: SchemaValue,
    artifacts: Mapping[str, Digest],
    attributes: Mapping[str, int | str],
) -> TableState:
    """Return a table of these shards alone."""
    return _state(repo, write_manifest(repo.objects, new_batch(parts, 1)), schema, artifacts, attributes)


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
