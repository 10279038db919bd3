"""From shards to the state of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import ConflictError
from pyfactory.repo.merge import merge_table_states
from pyfactory.repo.merge_rows import ids_of_both
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import CommitResult, Repository
from pyfactory.shard.diff import diff_manifests
from pyfactory.shard.layout import schema_to_value
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.packing_format import other_artifacts

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
    """Return a table with shards added behind those it has; its packing tables fit it no more."""
    if old is None or not old.shards:
        return replaced(repo, parts, schema, artifacts, attributes)
    # One later than the last row's, so that what is appended never sorts before older rows.
    root = extend_manifest(repo.objects, old.root, new_batch(parts, old.last_generation + 1))
    lasting = artifacts if root == old.root else other_artifacts(artifacts)
    return _state(repo, root, schema, lasting, attributes)


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
    """Commit a new state of one table, also when others have committed to the branch meanwhile.

    What others did to other tables stays as it is. If others have appended to this one and so do we, our shards go
    behind theirs; so the table committed may have more rows than `after`.

    Args:
        repo: The repository.
        table: Its name.
        before: Its state at `head`, None if it is new: what `after` was made from.
        after: Its new state.
        head: The commit that was read.
        branch: Where to commit.
        told: What `Repository.commit` records: message, author, made_by.

    Raises:
        ConflictError: The table itself was changed meanwhile in another way, or ids that we give are taken now.
    """
    for _ in range(_TRIES):
        try:
            return repo.commit({table: after}, branch, expected_head=head, **told)
        except ConflictError as conflict:
            seen, head = head, repo.head(branch)
            if head == seen:
                raise  # not because somebody else committed
            now = None if head == NO_DIGEST else repo.tables(head).get(table)
            if now != before:
                rebased = _rebased(repo, table, before, now, after)
                if rebased is None:
                    raise ConflictError(
                        f"table {table!r} on {branch} was changed by somebody else meanwhile: {conflict.message}",
                        hint="look at pyfactory log, then run it again",
                    ) from conflict
                before, after = now, rebased
    raise ConflictError(f"{branch} moves faster than table {table!r} can be committed", hint="run it again")


def _rebased(
    repo: Repository, table: str, before: TableState | None, now: TableState | None, after: TableState
) -> TableState | None:
    """Return what is there now with what `after` appended to `before`; None if that was not all that was done."""
    if now is None or before is None or now.digest == after.digest:
        return None if now is None or now.digest != after.digest else after
    theirs, ours = _appended(repo, before, now), _appended(repo, before, after)
    if theirs is None or ours is None:
        return None
    # The same batch was appended by the same work, done twice: once is enough.
    done = {entry.batch for entry in theirs}
    parts = [entry.part for entry in ours if entry.batch not in done]
    if not parts:
        after = _state(repo, now.manifest, after.schema, after.artifacts, after.attributes)
    merged = merge_table_states(repo.objects, table, before, now, after)
    # Ids from content, which count equal records, were given without those that the others have appended.
    taken = ids_of_both(repo.objects, [entry.part for entry in theirs], parts, content=True)[0]
    if merged.state is None or merged.conflicts or taken:
        return None
    facts = merged.state.schema, merged.state.artifacts, merged.state.attributes
    # Not the merged rows: those may sort before rows that the branch has already shown.
    return appended(repo, Manifest(repo.objects, now.manifest), parts, *facts)


def _appended(repo: Repository, before: TableState, state: TableState) -> list[Entry] | None:
    """Return the entries that a state has besides those before; None if it lacks some of those."""
    entries: list[Entry] = []
    for difference in diff_manifests(repo.objects, before.manifest, state.manifest):
        if difference.before is not None or difference.after is None:
            return None
        entries.append(difference.after)
    return entries


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
