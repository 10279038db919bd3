"""From addresses to arrays, phase by phase: each has its own rules for padding, documents and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.errors import InvalidInputError
from pyfactory.order.recipe import Recipe
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.feed import Feed
from pyfactory.stream.phase import Phase
from pyfactory.stream.shards import OpenShards

__all__ = ["fill_phases"]

Bounds = tuple[NDArray[np.int32] | None, int]


def fill_phases(
    phases: Sequence[Phase], feeds: Sequence[Feed], shards: OpenShards, addresses: Addresses, outputs: Mapping[str, Any]
) -> Bounds:
    """Fill arrays [m, length] with samples; see `Stream.fill`.

    Raises:
        InvalidInputError: The samples are of phases with several sequence lengths.
    """
    if len(phases) == 1:
        return shards.fill(addresses, phases[0].recipe, **outputs)
    of_feed = np.array([feed.phase for feed in feeds])
    which = of_feed[addresses.feed]
    cuts = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
    runs = [(phases[int(which[low])].recipe, low, high) for low, high in pairwise(cuts)]
    lengths = sorted({recipe.sequence_length for recipe, _, _ in runs})
    if len(lengths) > 1:
        raise InvalidInputError(
            f"samples of {lengths[0]} and of {lengths[1]} tokens do not fit into one array",
            hint="ask for the positions of one phase at a time",
        )
    return _joined([_filled(shards, addresses, run, outputs) for run in runs], runs)


def _filled(
    shards: OpenShards, addresses: Addresses, run: tuple[Recipe, int, int], outputs: Mapping[str, Any]
) -> Bounds:
    recipe, low, high = run
    rows = {name: array[low:high] if isinstance(array, np.ndarray) else array for name, array in outputs.items()}
    return shards.fill(addresses.slice(low, high), recipe, **rows)


def _joined(filled: Sequence[Bounds], runs: Sequence[tuple[Recipe, int, int]]) -> Bounds:
    longest = max(longest for _, longest in filled)
    if filled[0][0] is None:
        return None, longest
    bounds = [np.zeros(1, np.int32)]
    for (found, _), (recipe, low, _) in zip(filled, runs, strict=True):
        if found is not None:
            bounds.append(found[1:] + np.int32(low * recipe.sequence_length))
    return np.concatenate(bounds), longest
