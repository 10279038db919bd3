"""The stream: a pure function from position to sample, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest, Hasher
from pyfactory.errors import InvalidInputError
from pyfactory.order.recipe import Recipe
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.asking import AskedPhase, Change, asked_phase, changed_phase
from pyfactory.stream.filling import fill_phases
from pyfactory.stream.identity import identity_of, redactions_named, redactions_of, versions_of
from pyfactory.stream.mixture import Mixture, Weight, as_mixture
from pyfactory.stream.phase import END, Phase
from pyfactory.stream.places import Places
from pyfactory.stream.planning import make_plan
from pyfactory.stream.records import RecordSpan, records_of
from pyfactory.stream.shards import OpenShards
from pyfactory.stream.unseen import Unseen

if TYPE_CHECKING:
    from pyfactory.repo.version import Version
    from pyfactory.stream.find import Finding

__all__ = ["Stream"]

Int64s = NDArray[np.int64]

_DIGEST_TOKENS = 1 << 20  # hashed at a time by digest(): 8 MB of int64


class Stream:
    """The endless, shuffled sequence of samples that (versions, seed, recipe) name.

    Position p of a stream of one table holds sample p mod n of epoch p div n, each epoch in an order of its own; those
    of a mixture are dealt to its sources by their weights, and each source goes on in the same way. Nothing here
    depends on ranks, workers or the way rows are cut into shards; docs/stream-spec.md has every bit. Creating one reads
    the root of each manifest: O(sources) time and memory.

    Args:
        version: A table of tokens at a commit, or a `Mixture` of several.
        seed: In [0, 2^64).
        sequence_length: Input tokens of a sample, L.
        block_size: Samples that stay neighbours when blocks are shuffled; 1 (default) is a full shuffle.
        window: Shuffled blocks among which samples are shuffled once more.
        packing: How documents become samples: "concat" (one after the other, cut every L tokens), or what
            `pyfactory.pack` has made a table for: "best_fit", "padded", "documents".
        across_documents: Whether attention and targets reach over the documents of a sample.
        fill: The input where there is no token: padding, and what was forgotten.
        response_template: With packing "documents", tokens behind which targets begin: the end of a prompt.
        require: What the data must be, "signed", "gated" or "signed,gated"; see `repo.requirement`. It decides whether
            the stream opens and nothing else: no part of its identity.

    Attributes:
        seed: The seed.
        phases: The phases, in order; more than one after `then`, and where sources end.
        feeds: What each table delivers in each phase, by number.
        tables: The tables that are read, by number.

    Raises:
        InvalidInputError: A table has no tokens or too few, or a parameter is out of range.
        RefusedError: The data is not what is required; the refusal is in the log.
    """

    def __init__(
        self,
        version: Version | Mixture,
        *,
        seed: int,
        sequence_length: int = 2048,
        block_size: int = 1,
        window: int = 1,
        packing: str = "concat",
        across_documents: bool = False,
        fill: int = 0,
        response_template: Sequence[int] | None = None,
        require: str = "",
    ) -> None:
        template = () if response_template is None else response_template
        recipe = Recipe(sequence_length, block_size, window, packing, across_documents, fill, template)
        self._open((asked_phase(0, recipe, as_mixture(version)),), seed, require, {})

    def _open(
        self,
        asked: tuple[AskedPhase, ...],
        seed: int,
        require: str,
        compared: dict[tuple[Digest, Digest], Unseen],
    ) -> None:
        if require:
            for phase in asked:
                for source in phase.sources:
                    _require(source.source.version, require)
        self.seed = seed
        self._asked, self._require, self._compared = asked, require, compared
        self._plan = make_plan(asked, seed, compared)
        self.phases, self.feeds, self.tables = self._plan.phases, self._plan.feeds, self._plan.tables
        self._places = Places(self.phases, self.feeds)
        self._shards = OpenShards(self.tables)

    def then(
        self,
        *,
        at: int,
        weights: Mapping[str, Weight] | None = None,
        version: Version | None = None,
        versions: Mapping[str, Version] | None = None,
        mixture: Mixture | None = None,
        unseen_only: bool = False,
        **recipe: Any,
    ) -> Stream:
        """Return this stream up to a position, and with other sources, weights or recipe from there on.

        Everything before `at` stays what it is, and states saved there are loaded by the new stream. A source goes on
        where it was; one that is cut otherwise (another version, sequence length, packing or shuffle) begins a new
        epoch.

        Args:
            at: The first position of the new phase, not before the last one that begins.
            weights: New weights by name, of all sources that are to go on; "0" leaves one out. Those of sources that
                have ended say nothing.
            version: The new version of the only source.
            versions: New versions by name of source.
            mixture: Other sources altogether; those of a name that there was go on.
            unseen_only: Deliver of the new versions first what is left of the old epoch and what was added, without
                repeats; what was removed is masked. Then a new epoch of the whole new version begins. A record counts
                as changed if its number of tokens has.
            **recipe: What changes of `sequence_length`, `block_size`, `window`, `packing`, `across_documents`, `fill`
                and `response_template`.

        Raises:
            InvalidInputError: It cannot be done; the message says why.
            RefusedError: A new version is not what the stream requires.
        """
        change = Change(weights, version, versions, mixture, unseen_only, recipe)
        asked = changed_phase(self._asked, self._plan, at, change)
        return Stream.of_phases((*self._asked, asked), self.seed, self._require, self._compared)

    @classmethod
    def of_phases(
        cls,
        asked: tuple[AskedPhase, ...],
        seed: int,
        require: str = "",
        compared: dict[tuple[Digest, Digest], Unseen] | None = None,
    ) -> Stream:
        """Return the stream of phases that were asked for, by position; see `then` and `replayed.open_identity`."""
        stream = cls.__new__(cls)
        stream._open(asked, seed, require, {} if compared is None else compared)
        return stream

    @property
    def recipe(self) -> Recipe:
        """How the first phase cuts and orders samples."""
        return self.phases[0].recipe

    @property
    def sequence_length(self) -> int:
        """Input tokens of a sample of the first phase."""
        return self.recipe.sequence_length

    @property
    def version(self) -> Version:
        """The version of the first source, of which many streams have no other."""
        return self.feeds[0].version

    @property
    def versions(self) -> tuple[Version, ...]:
        """All versions that its phases name, each once, in order; also those of which nothing is delivered."""
        return versions_of(self._asked)

    @property
    def end(self) -> int | None:
        """One past the last position; None if the stream is endless."""
        return self.phases[-1].stop

    def __len__(self) -> int:
        """Samples of an epoch of the first phase, all its sources together."""
        return self.phases[0].samples

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the delivered bytes, as a canonical value: the replay identity.

        It names redactions only if some took tokens out of the tables; see `redactions`.
        """
        return identity_of(self._asked, self.seed, self._plan) | redactions_named(self.tables, self._shards)

    @property
    def redactions(self) -> dict[str, list[dict[str, Any]]]:
        """What redactions took out of each table, by its version digest; after each, oldest first: the last counts now.

        The first call looks through the manifests if anything was ever forgotten, else it is free.
        """
        return redactions_of(self.tables, self._shards)

    def addresses(self, positions: Sequence[int] | Int64s) -> Addresses:
        """Return where the samples at positions are; positions beyond an epoch are later epochs.

        O(log shards + log sources) time and O(1) memory for each position.

        Raises:
            InvalidInputError: A position is negative, behind the end of the stream, or not an integer.
        """
        return self._places.addresses(positions)

    def position_of(self, addresses: Addresses) -> Int64s:
        """Return the positions, int64[m], of samples at addresses: the inverse of `addresses`.

        Raises:
            InvalidInputError: An address is not the start of a sample of this stream.
        """
        return self._places.position_of(addresses)

    def positions(self, feed: int, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return where samples of a feed stand in epochs of it: int64[m]; -1 where its phase does not have them."""
        return self._places.positions(feed, samples, epochs)

    def fill(self, addresses: Addresses, **outputs: Any) -> tuple[NDArray[np.int32] | None, int]:
        """Fill arrays [m, sequence_length] with samples; see `native.ShardSet.fill`. Thread-safe, without the GIL."""
        return fill_phases(self.phases, self.feeds, self._shards, addresses, outputs)

    def tokens(self, positions: Sequence[int] | Int64s) -> Int64s:
        """Return the input tokens at positions, of phases of one sequence length: int64 [m, sequence_length]."""
        addresses = self.addresses(positions)
        if not len(addresses):
            return np.empty((0, self.sequence_length), np.int64)
        length = self.phases[self.feeds[int(addresses.feed[0])].phase].recipe.sequence_length
        rows = np.empty((len(addresses), length), np.int64)
        self.fill(addresses, input_ids=rows)
        return rows

    def records(self, start: int, stop: int) -> Iterator[RecordSpan]:
        """Yield the records of positions [start, stop) with their origins, sample by sample, in the order of reading.

        The last token of a sample may be a target alone; it is included. O(documents of the samples). A table that a
        job built knows no raw files: origins are None, and `pyfactory find REPO ID` tells file and line.
        """
        return records_of(self, start, stop)

    def find(
        self,
        record_id: str,
        *,
        epochs: range | None = None,
        start: int = 0,
        stop: int | None = None,
        global_batch: int | None = None,
        world_size: int | None = None,
        strided: bool = False,
    ) -> Finding:
        """Return the positions at which a record is read, or what dropped it; see `stream.find.find` for more.

        Positions are those of [start, stop); without `stop`, those of the epoch each source is in at `start`, or of
        `epochs`. `global_batch`, `world_size` and `strided` are those of the loader: they tell train steps and lanes.
        """
        from pyfactory.stream.find import find  # here: training needs none of it

        lanes: Any = {"global_batch": global_batch, "world_size": world_size, "strided": strided}
        return find(self, record_id, epochs=epochs, start=start, stop=stop, **lanes)

    def digest(self, start: int, stop: int) -> Digest:
        """Return the hash of the token content of positions [start, stop).

        BLAKE3 of the input tokens, position by position, as little-endian uint32: what anybody can compute from the
        `input_ids` they received. O(stop - start).

        Raises:
            InvalidInputError: The span is empty backwards, negative, or goes beyond the end of the stream.
        """
        if not 0 <= start <= stop:
            raise InvalidInputError(f"[{start}, {stop}) is not a span of positions")
        hasher = Hasher()
        while start < stop:
            phase = self.phase_at(start)
            step = max(1, _DIGEST_TOKENS // phase.recipe.sequence_length)
            upto = min(start + step, stop, END if phase.stop is None else phase.stop)
            hasher.update(self.tokens(np.arange(start, upto)).astype("<u4").tobytes())
            start = upto
        return Digest(hasher.hexdigest())

    def phase_at(self, position: int) -> Phase:
        """Return the phase that a position belongs to.

        Raises:
            InvalidInputError: The stream has no such position.
        """
        return self._places.phase_at(position)


def _require(version: Version, what: str) -> None:
    from pyfactory.repo.requirement import require  # here: most streams need none of it

    home = version.repository
    require(home, home.view(), version.resolved, what, "stream", table=version.table)
