"""Whether an import was made before: then nothing is added, so that it may be run again whatever became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import Digest, digest_of_file, parse_digest
from pyfactory.core.durable import translate_os_error
from pyfactory.factory.destination import Destination
from pyfactory.repo.fields import sound
from pyfactory.repo.objects import Commit, TableState
from pyfactory.shard.importers.sources import SourceFile

__all__ = ["Listed", "earlier_import", "same_files"]

# Commits looked through for an earlier import of the same sources.
_REMEMBERED = 256

Listed = Sequence[Mapping[str, Any]]
"""The sources that an import lists: name, digest, bytes, records, skipped."""


def earlier_import(
    into: Destination, options: Mapping[str, Any], same: Callable[[Listed], bool]
) -> tuple[Commit, TableState] | None:
    """Return the commit of an earlier import with these options, and the table, if that holds its records still.

    Args:
        into: The table.
        options: What that import must have been asked for.
        same: Tells whether the sources that it lists are the ones of now.
    """
    if into.state is None:
        return None
    for commit in islice(into.repo.log(into.head), _REMEMBERED):
        made_by = commit.made_by or {}
        with sound(f"{into.repo.url}: what commit {commit.digest} says of how it was made"):
            if made_by.get("kind") == "job" and made_by["output"] == into.table:
                return None
            if made_by.get("kind") == "import" and made_by["table"] == into.table and made_by["options"] == options:
                listed = canonical.decode(into.repo.objects.get(parse_digest(made_by["sources"])), "a list of sources")
                if same(listed):
                    return commit, into.state
    return None


def same_files(files: Sequence[SourceFile], listed: Listed) -> bool:
    """Tell whether files are the listed ones: same names and bytes, in the same order."""
    # Names and sizes first: files are read only where those agree.
    if [(source["name"], source["bytes"]) for source in listed] != [(file.name, file.size) for file in files]:
        return False
    return all(_digest(file) == source["digest"] for source, file in zip(listed, files, strict=True))


def _digest(file: SourceFile) -> Digest:
    with translate_os_error(file.path):
        return digest_of_file(file.path)
