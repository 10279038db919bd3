"""Which rank this process is: said by the caller or by torch.distributed, never guessed."""

from __future__ import annotations

import os

import torch.distributed as dist

from pyfactory.errors import InvalidInputError

__all__ = ["rank_and_world"]


def rank_and_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return (rank, world size) from the arguments, else from torch.distributed, else (0, 1).

    Raises:
        InvalidInputError: Only one was given, or the process was started as one of several and nothing says which.
    """
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise InvalidInputError("rank and world_size go together", hint="give both or neither")
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    # Every process of a torchrun would silently train on the same samples.
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InvalidInputError(
            "WORLD_SIZE is set but torch.distributed is not initialized",
            hint="call init_process_group() before making the loader, or give rank= and world_size=",
        )
    return 0, 1
