"""The end of every import: ids are settled, and each content shard gets its side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.shard.importers.existing import Existing, SideSource
from pyfactory.shard.importers.ids import IdResolver, partitions_for
from pyfactory.shard.importers.sides import write_side
from pyfactory.shard.importers.sources import SourceFile
from pyfactory.shard.importers.staging import StagedShard
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

__all__ = ["Map", "index_shards", "temporary_folder"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Map(Protocol):
    """Calls a function with each task, maybe in threads of this process; outcomes come in the order of the tasks."""

    def __call__(self, function: Callable[[Item], Outcome], tasks: Sequence[Item], /) -> Iterable[Outcome]:
        """Return the outcomes, or raise the error of the first task that failed."""


@contextmanager
def temporary_folder(objects: Objects) -> Iterator[Path]:
    """Give a folder for spills, which goes when the block ends."""
    staging = objects.store.staging()
    with translate_os_error(staging):
        folder = Path(tempfile.mkdtemp(prefix="import-", dir=staging))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def index_shards(
    objects: Objects,
    folder: Path,
    shards: Sequence[StagedShard],
    known: Sequence[SideSource],
    files: Sequence[SourceFile],
    digests: Sequence[Digest] | None,
    with_ids: bool,
    map: Map,
    progress: Progress,
) -> list[Part]:
    """Settle the ids and write the side of every shard.

    Args:
        objects: Where sides go.
        folder: For temporary files.
        shards: The staged content shards, in order.
        known: Side shards of the tables whose ids may not occur again.
        files: What the file numbers in the spills stand for, named in errors.
        digests: Their digests, the origins of records; None: records have no origin.
        with_ids: Rows brought ids; otherwise these are made from the content.
        map: Runs the tasks.
        progress: Told of the stage "index" (shards).

    Raises:
        InvalidInputError: An id occurs twice or is taken.
    """
    partitions = partitions_for(sum(shard.rows for shard in shards))
    resolver = IdResolver(shards, Existing(known, partitions, folder), partitions)
    numbers: NDArray[np.uint32] | None = None
    if with_ids:
        resolver.refuse_duplicates(files)
    else:
        numbers = resolver.occurrence_numbers(folder / "numbers")

    def index(at: int) -> Part:
        start, stop = resolver.starts[at : at + 2].tolist()
        return write_side(objects, shards[at], digests, None if numbers is None else numbers[start:stop])

    parts = []
    for part in map(index, range(len(shards))):
        parts.append(part)
        progress("index", len(parts), len(shards))
    return parts
