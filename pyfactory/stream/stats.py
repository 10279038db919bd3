"""What a stream delivers, in numbers: shares, epochs, tokens and padding, by phase and source."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyfactory.errors import InvalidInputError
from pyfactory.order.packing import Concat, Runs
from pyfactory.shard.packing_table import PackingTable
from pyfactory.stream.feed import Feed
from pyfactory.stream.masks import IGNORE
from pyfactory.stream.phase import END, Leaf, Phase, UnseenLeaf, WholeLeaf
from pyfactory.stream.stream import Stream

__all__ = ["input_tokens", "stream_stats"]

_CHUNK = 1 << 20  # samples counted at a time
_LOOKED_AT = 1000  # samples of a phase whose targets are looked at
_TARGETS = 1 << 20  # and how many targets at a time


def stream_stats(stream: Stream, stop: int | None = None) -> dict[str, Any]:
    """Return what a stream delivers before a position, as plain values. O(sources of the phases).

    Shares are those of samples; `token_share` says what they mean in tokens, on average. Keys: seed, positions (that
    were counted), end (None: endless), phases: start, stop, recipe, positions, tokens (useful inputs), padding (share
    of the inputs), sources: name, table, commit, asked, weight, samples (of an epoch), positions, share, tokens,
    token_share, epochs (begun with and reached); of a source on its way to a new version, `unseen` in place of these:
    old and added samples, removed records and tokens. A phase with a response template also has `without_targets`, for
    which its first samples are read: of so many (`of`), those in which nothing is predicted (`samples`).

    Args:
        stream: The stream.
        stop: Count the positions before this one; by default those up to the end of an epoch of the last phase.

    Raises:
        InvalidInputError: There is no such position.
    """
    last = stream.phases[-1]
    if stop is None:
        stop = min(last.start + last.samples, END) if last.stop is None else last.stop
    else:
        _check_stop(stop, last.stop)
    phases = [_phase(stream, phase, stop) for phase in stream.phases if phase.start < stop]
    return {"seed": stream.seed, "positions": stop, "end": last.stop, "phases": phases}


def _check_stop(stop: int, end: int | None) -> None:
    if stop < 1:
        raise InvalidInputError(f"there is nothing to count before position {stop}", hint="give a later position")
    if stop > (END if end is None else end):
        hint = "positions are 0 to 2^62 - 1" if end is None else f"the stream ends at position {end}"
        raise InvalidInputError(f"there are not all positions before {stop}", hint=f"{hint}: count up to there")


def input_tokens(feed: Feed, length: int, start: int, stop: int) -> int:
    """Return the input tokens, without padding, of the samples at indexes [start, stop) of a feed.

    O(1), but for the samples of a packing table in epochs that the indexes hold a part of: O(those).
    """
    geometry = feed.geometry
    if not isinstance(geometry, PackingTable):
        return (stop - start) * length
    first, last = -(-start // geometry.samples), stop // geometry.samples
    if first >= last:
        return _counted(feed, length, start, stop)
    ends = _counted(feed, length, start, first * geometry.samples) + _counted(
        feed, length, last * geometry.samples, stop
    )
    return ends + (last - first) * geometry.report.input_tokens


def _counted(feed: Feed, length: int, start: int, stop: int) -> int:
    total = 0
    for low in range(start, stop, _CHUNK):
        samples = np.sort(feed.order.samples_at(np.arange(low, min(low + _CHUNK, stop))))
        _, lengths, offsets = feed.geometry.pieces(samples)
        total += int(np.minimum(np.add.reduceat(lengths, offsets[:-1]), length).sum())
    return total


def _phase(stream: Stream, phase: Phase, stop: int) -> dict[str, Any]:
    upto = stop if phase.stop is None else min(stop, phase.stop)
    length = phase.recipe.sequence_length
    sources = [
        _source(stream, leaf, count, length) for leaf, count in zip(phase.leaves, phase.counts(upto), strict=True)
    ]
    tokens = sum(source["tokens"] for source in sources)
    for source in sources:
        source["share"] = round(source["positions"] / max(upto - phase.start, 1), 6)
        source["token_share"] = round(source["tokens"] / tokens, 6) if tokens else 0.0
    found: dict[str, Any] = {
        "start": phase.start,
        "stop": phase.stop,
        "recipe": phase.recipe.to_value(),
        "positions": upto - phase.start,
        "tokens": tokens,
        "padding": round(1 - tokens / ((upto - phase.start) * length), 6),
        "sources": sources,
    }
    if phase.recipe.response_template:
        found["without_targets"] = _without_targets(stream, phase, upto)
    return found


def _without_targets(stream: Stream, phase: Phase, stop: int) -> dict[str, int]:
    length, stop, empty = phase.recipe.sequence_length, min(stop, phase.start + _LOOKED_AT), 0
    step = max(_TARGETS // length, 1)
    for low in range(phase.start, stop, step):
        positions = np.arange(low, min(low + step, stop))
        targets = np.empty((len(positions), length), np.int64)
        stream.fill(stream.addresses(positions), targets=targets)
        empty += int((targets == IGNORE).all(axis=1).sum())
    return {"samples": empty, "of": stop - phase.start}


def _source(stream: Stream, leaf: Leaf, count: int, length: int) -> dict[str, Any]:
    version = leaf.feeds[-1].version
    useful = sum(_useful(feed, length) * feed.geometry.samples for feed in leaf.feeds)
    whole = sum(feed.geometry.samples for feed in leaf.feeds)
    found: dict[str, Any] = {
        "name": leaf.name,
        "table": version.table,
        "commit": version.commit,
        "asked": version.asked,
        "weight": leaf.weight,
        "samples": leaf.samples,
        "positions": count,
        "tokens": round(count * useful / whole),
    }
    if isinstance(leaf, UnseenLeaf):
        added = 0 if leaf.added is None else leaf.added.geometry.samples
        removed = None if leaf.tail is None else stream.tables[leaf.tail.table].removed
        found["unseen"] = {
            "old_samples": leaf.tail_samples,
            "added_samples": added,
            "removed_records": 0 if removed is None else removed.documents,
            "removed_tokens": 0 if removed is None else removed.tokens,
        }
    if isinstance(leaf, WholeLeaf):
        found["epochs"] = [round(at / leaf.samples, 4) for at in (leaf.begin, leaf.begin + count)]
    return found


def _useful(feed: Feed, length: int) -> float:
    """Return the input tokens of a sample, on average."""
    geometry = feed.geometry
    if isinstance(geometry, Concat | Runs):
        return length
    assert isinstance(geometry, PackingTable)
    return geometry.report.input_tokens / geometry.samples
