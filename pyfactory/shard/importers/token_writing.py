"""The second reading of files of tokens: shard by shard, in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Hasher
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.indexing import Map
from pyfactory.shard.importers.rows import HASH_BYTES
from pyfactory.shard.importers.staging import StagedShard, content_keys, hash_array, write_spill
from pyfactory.shard.importers.streams import refuse_changed
from pyfactory.shard.importers.token_documents import Cut, ends_between, rows_between
from pyfactory.shard.importers.token_files import TokenFile
from pyfactory.shard.writer import encode_shard, token_batch
from pyfactory.store.content import Objects

__all__ = ["Writing"]


@dataclass(frozen=True, slots=True)
class Writing:
    """The second reading, shard by shard.

    Attributes:
        objects: Where shards go.
        folder: Where spills go.
        files: All files.
        eos: The token that ends documents, or None.
        width: Bytes of a token.
        key_of_content: See `ShardCutter`.
    """

    objects: Objects
    folder: Path
    files: Sequence[TokenFile]
    eos: int | None
    width: int
    key_of_content: bool

    def all(self, cuts: Sequence[tuple[int, Cut]], map: Map, progress: Progress) -> list[StagedShard]:
        """Write all shards, each a file's number and a cut of that file."""
        shards = []
        for shard in map(partial(self._write, cuts), range(len(cuts))):
            shards.append(shard)
            progress("write", len(shards), len(cuts))
        return shards

    def _write(self, cuts: Sequence[tuple[int, Cut]], at: int) -> StagedShard:
        number, cut = cuts[at]
        file = self.files[number]
        tokens = _tokens(file, cut)
        eos = None if self.eos is None else tokens == self.eos
        ends = ends_between(file, cut.start, cut.stop, cut.document, eos)
        if not len(ends) or ends[-1] < cut.stop:
            ends = np.append(ends, cut.stop)  # a document that goes on in the next shard
        rows, numbers = rows_between(ends, cut.start, cut.document)
        offsets = np.concatenate([[0], rows - cut.start]).astype(np.int64)
        hashes = _hashes(tokens, offsets)
        spill = self.folder / f"tokens-{at:08d}.arrow"
        keys = content_keys(hashes, self.key_of_content)
        write_spill(spill, hash_array(hashes), keys, np.full(len(rows), number, np.int32), numbers.astype(np.int64) + 1)
        content = encode_shard(token_batch(tokens.astype(f"u{self.width}", copy=False), offsets))
        refuse_changed(file.source)
        return StagedShard(self.objects.put(memoryview(content)), len(rows), content.size, spill)


def _tokens(file: TokenFile, cut: Cut) -> NDArray[Any]:
    """Read the tokens of a shard."""
    octets = np.empty((cut.stop - cut.start) * file.dtype.itemsize, np.uint8)
    place, held = file.start + cut.start * file.dtype.itemsize, 0
    with translate_os_error(file.source.path), file.source.path.open("rb", buffering=0) as opened:
        while held < len(octets):
            count = os.preadv(opened.fileno(), [octets.data[held:]], place + held)
            if not count:
                refuse_changed(file.source)
                raise InvalidInputError(f"{file.source.path} ended while it was read", hint="run it again")
            held += count
    return octets.view(file.dtype)


def _hashes(tokens: NDArray[Any], offsets: NDArray[np.int64]) -> bytes:
    """Return the content hash of each document, one after the other."""
    octets = np.ascontiguousarray(tokens, "<u4").view(np.uint8).data
    bounds = (4 * offsets).tolist()
    return b"".join([Hasher(octets[start:stop]).digest(length=HASH_BYTES) for start, stop in pairwise(bounds)])
