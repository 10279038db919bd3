"""The stream: a pure function from position to sample, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest, Hasher
from pyfactory.core.rng import SPEC_VERSION
from pyfactory.errors import InvalidInputError
from pyfactory.order.packing import Concat
from pyfactory.order.permutation import SourceOrder
from pyfactory.order.recipe import Recipe
from pyfactory.stream.addresses import Addresses, locate
from pyfactory.stream.shards import OpenShards

if TYPE_CHECKING:
    from pyfactory.repo.version import Version

__all__ = ["Stream"]

Int64s = NDArray[np.int64]

# Tokens hashed at a time by digest(): 8 MB of int64.
_DIGEST_TOKENS = 1 << 20


class Stream:
    """The endless, shuffled sequence of samples that (version, seed, recipe) names.

    Position p holds sample p mod n of epoch p div n, each epoch in an order of its own. Nothing here depends on ranks,
    workers or the way rows are cut into shards. Creating one reads the root of a manifest: O(1) time and memory.

    Args:
        version: A table of tokens at a commit.
        seed: In [0, 2^64).
        sequence_length: Input tokens of a sample, L; sample i reads tokens [iL, iL + L] of the table.
        block_size: Samples that stay neighbours when blocks are shuffled; 1 (default) is a full shuffle.
        window: Shuffled blocks among which samples are shuffled once more.
        require: What the data must be, "signed", "gated" or "signed,gated"; see `repo.requirement`. It decides whether
            the stream opens and nothing else: no part of its identity.

    Raises:
        InvalidInputError: The table has no tokens or too few, or a parameter is out of range.
        RefusedError: The data is not what is required; the refusal is in the log.
    """

    def __init__(
        self,
        version: Version,
        *,
        seed: int,
        sequence_length: int = 2048,
        block_size: int = 1,
        window: int = 1,
        require: str = "",
    ) -> None:
        if require:
            _require(version, require)
        self.version = version
        self.seed = seed
        self.recipe = Recipe(sequence_length, block_size, window)
        if "width" not in version.attributes:
            raise InvalidInputError(
                f"table {version.table!r} holds no tokens", hint="stream a table that a job with `tokenize` built"
            )
        self.packing = Concat(version.tokens, sequence_length)
        self._order = SourceOrder(self.packing.samples, seed, version.table, block_size=block_size, window=window)
        self._shards = OpenShards(version.manifest, version.table, version.repository.view)

    @property
    def sequence_length(self) -> int:
        """Input tokens of a sample."""
        return self.recipe.sequence_length

    def __len__(self) -> int:
        """Samples of an epoch."""
        return self.packing.samples

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the delivered bytes, as a canonical value: the replay identity.

        It names redactions only if some took tokens out of the table; see `redactions`.
        """
        redactions = self.redactions
        identity: dict[str, Any] = {
            "spec": SPEC_VERSION,
            "seed": self.seed,
            "recipe": self.recipe.to_value(),
            "sources": [{"name": self.version.table, "version": self.version.digest}],
        }
        return identity | {"redactions": redactions[-1]} if redactions else identity

    @property
    def redactions(self) -> list[dict[str, Any]]:
        """What the replay identity said after each redaction of the table, oldest first: the last one counts now.

        The first call looks through the manifest if anything was ever forgotten in the repository, else it is free.
        """
        return self._shards.masks().identities

    def addresses(self, positions: Sequence[int] | Int64s) -> Addresses:
        """Return where the samples at positions are; positions beyond len() are later epochs.

        O(log shards) time and O(1) memory for each position.

        Raises:
            InvalidInputError: A position is negative or not an integer.
        """
        array = _integers(positions)
        firsts = self._order.samples_at(array) * self.sequence_length
        return locate(self.version.manifest, firsts, self.sequence_length + 1, array // len(self))

    def position_of(self, addresses: Addresses) -> Int64s:
        """Return the positions, int64[m], of samples at addresses: the inverse of `addresses`.

        Raises:
            InvalidInputError: An address is not the start of a sample of this stream.
        """
        head = addresses.offsets[:-1]
        firsts = self.version.manifest.token_starts(addresses.shard[head]) + addresses.first[head]
        samples, rest = np.divmod(firsts, self.sequence_length)
        if rest.any() or (samples >= len(self)).any():
            raise InvalidInputError("an address is not the start of a sample", hint="ask the stream that gave it")
        return self._order.positions_of(samples, addresses.epoch)

    def fill(self, addresses: Addresses, **outputs: Any) -> tuple[NDArray[np.int32] | None, int]:
        """Fill arrays [m, sequence_length] with samples; see `native.ShardSet.fill`. Thread-safe, without the GIL."""
        return self._shards.fill(addresses, self.sequence_length, **outputs)

    def tokens(self, positions: Sequence[int] | Int64s) -> Int64s:
        """Return the input tokens at positions: int64 [m, sequence_length]."""
        addresses = self.addresses(positions)
        if not len(addresses):
            return np.empty((0, self.sequence_length), np.int64)
        rows = np.empty((len(addresses), self.sequence_length), np.int64)
        self.fill(addresses, input_ids=rows)
        return rows

    def digest(self, start: int, stop: int) -> Digest:
        """Return the hash of the token content of positions [start, stop).

        BLAKE3 of the input tokens, position by position, as little-endian uint32: what anybody can compute from the
        `input_ids` they received. O(stop - start).

        Raises:
            InvalidInputError: The span is empty backwards or negative.
        """
        if not 0 <= start <= stop:
            raise InvalidInputError(f"[{start}, {stop}) is not a span of positions")
        hasher = Hasher()
        step = max(1, _DIGEST_TOKENS // self.sequence_length)
        for first in range(start, stop, step):
            rows = self.tokens(np.arange(first, min(first + step, stop)))
            hasher.update(rows.astype("<u4").tobytes())
        return Digest(hasher.hexdigest())


def _require(version: Version, what: str) -> None:
    from pyfactory.repo.requirement import require  # here: most streams need none of it

    home = version.repository
    require(home, home.view(), version.resolved, what, "stream", table=version.table)


def _integers(positions: Sequence[int] | Int64s) -> Int64s:
    array = np.asarray(positions)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or (array.dtype == np.uint64 and array.size):
        raise InvalidInputError("positions are not integers below 2^62", hint="positions are 0 to 2^62 - 1")
    return array.astype(np.int64, copy=False)
