"""Feeds: what one table delivers in one phase, in an order of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.order.packing import Concat, Geometry
from pyfactory.order.permutation import SourceOrder
from pyfactory.order.recipe import Recipe
from pyfactory.repo.version import Version
from pyfactory.shard.packing_format import artifact_name
from pyfactory.shard.packing_table import PackingTable, load_fitting
from pyfactory.stream.addresses import Addresses, locate
from pyfactory.stream.unseen import TokenRuns

__all__ = ["Feed", "StreamTable", "open_geometry"]

Int64s = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StreamTable:
    """A table that a stream reads.

    Attributes:
        version: The table at its commit.
        removed: What is masked in it besides what was forgotten, since a newer version has it no more; None is nothing.
    """

    version: Version
    removed: TokenRuns | None = None


@dataclass(frozen=True, eq=False)
class Feed:
    """The samples of one table in one phase.

    Attributes:
        number: Its number in `Stream.feeds`.
        phase: The number of its phase in `Stream.phases`.
        source: Name of the source that it belongs to.
        version: The table at its commit.
        table: The number of the table in `Stream.tables`.
        geometry: Which tokens of the table each sample reads.
        order: Which sample comes when.
    """

    number: int
    phase: int
    source: str
    version: Version
    table: int
    geometry: Geometry
    order: SourceOrder

    def addresses(self, samples: Int64s, epochs: Int64s) -> Addresses:
        """Return where samples of this feed are: int64[m] -> m addresses."""
        first, length, offsets = self.geometry.pieces(samples)
        run, shard, first, length = locate(self.version.manifest, first, length)
        if len(run) > offsets[-1]:
            offsets = np.searchsorted(run, offsets).astype(np.int64)
        table = np.full(len(shard), self.table)
        return Addresses(table, shard, first, length, offsets, np.full(len(samples), self.number), epochs)

    def samples_at(self, addresses: Addresses) -> Int64s:
        """Return the sample that begins at each address; -1 where none does."""
        head = addresses.offsets[:-1]
        starts = self.version.manifest.token_starts(addresses.shard[head])
        return self.geometry.sample_at(starts + addresses.first[head])


def open_geometry(version: Version, recipe: Recipe) -> tuple[Geometry, Digest | None]:
    """Return how a table is cut into samples, and the digest of its packing table if it has one.

    Raises:
        InvalidInputError: The table holds no tokens or too few, or no packing of that kind and length was made for it.
        NotFoundError: Its packing table is gone.
        CorruptError: It is damaged, or was made for other rows.
    """
    if "width" not in version.attributes:
        raise InvalidInputError(
            f"table {version.table!r} holds no tokens", hint="stream a table that a job with `tokenize` built"
        )
    if recipe.packing == "concat":
        return Concat(version.tokens, recipe.sequence_length), None
    name = artifact_name(recipe.packing, recipe.sequence_length)
    digest = version.artifacts.get(name)
    if digest is None:
        raise InvalidInputError(
            f"table {version.table!r} at {version.asked} has no packing {recipe.packing!r} for sequence_length "
            f"{recipe.sequence_length}{_others(version.artifacts)}",
            hint=f"pyfactory pack REPO {version.table} --packing {recipe.packing} "
            f"--sequence-length {recipe.sequence_length}",
        )
    objects = version.repository.objects
    index = load_fitting(objects, digest, name, (version.rows, version.tokens))
    return PackingTable(objects, index, f"the packing {digest} of table {version.table!r}"), digest


def _others(artifacts: Iterable[str]) -> str:
    made = sorted(name.removeprefix("packing/") for name in artifacts if name.startswith("packing/"))
    return f", only {', '.join(made)}" if made else ""
