"""New states of tables: what a commit changes, and whether readers could use it."""

from __future__ import annotations

from collections.abc import Mapping

from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.repo.home import Home
from pyfactory.repo.names import check_table_name, suggestion
from pyfactory.repo.objects import TableState
from pyfactory.shard.manifest import Manifest
from pyfactory.shard.packing_format import packing_artifacts
from pyfactory.shard.packing_table import load_fitting

__all__ = ["replaced"]


def replaced(
    home: Home, tables: Mapping[str, TableState], changes: Mapping[str, TableState | None], branch: str
) -> dict[str, TableState]:
    """Return the tables of a branch after changes to some of them; None removes one.

    Raises:
        NotFoundError: There is no such table to remove.
        InvalidInputError: A name is none, or no reader could use a state: better no commit than a broken one.
    """
    after = dict(tables)
    for name, state in changes.items():
        check_table_name(name)
        if state is not None:
            _check(home, name, state)
            after[name] = state
        elif after.pop(name, None) is None:
            raise NotFoundError(f"{home.url}: there is no table {name!r} on {branch}", hint=suggestion(name, after))
    return after


def _check(home: Home, name: str, state: TableState) -> None:
    what = f"table {name!r}"
    try:
        TableState.from_value(state.to_value(), what)
        manifest = Manifest(home.objects, state.manifest)
        missing = [artifact for artifact, digest in state.artifacts.items() if not home.objects.exists(digest)]
        for artifact, digest in packing_artifacts(state.artifacts).items():
            load_fitting(home.objects, digest, artifact, (state.rows, state.tokens))
    except (CorruptError, NotFoundError) as error:
        raise InvalidInputError(f"{home.url}: {what} cannot be committed: {error.message}") from error
    if missing:
        raise InvalidInputError(f"{home.url}: {what} names objects that are not stored: {', '.join(missing)}")
    said = (state.shards, state.rows, state.tokens, state.nbytes)
    held = (manifest.shards, manifest.rows, manifest.tokens, manifest.nbytes)
    if said != held:
        raise InvalidInputError(f"{home.url}: {what} claims {said} shards, rows, tokens, bytes, but holds {held}")
