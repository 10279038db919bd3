"""Which part of the training this process is: said by the caller or by torch.distributed, never guessed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.distributed as dist

from pyfactory.errors import InvalidInputError
from pyfactory.loader.context import ContextSlice

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Place", "place_of"]

# What torch, torchtitan and Accelerate call the dimensions of a mesh. Expert parallelism is missing on purpose: its
# ranks may share batches or not.
_OTHER_BATCH = ("dp", "data", "data_parallel", "ddp", "batch", "dp_replicate", "dp_shard", "replicate", "shard", "fsdp")
_SAME_BATCH = ("tp", "cp", "pp", "sp", "tensor", "context", "pipeline", "tensor_parallel", "context_parallel",
               "pipeline_parallel")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among all that train.

    Attributes:
        rank: Its lane.
        world_size: Number of lanes.
        leads: Whether it is the one process that writes for all.
        context: Its part of each sequence; None is all of it.
    """

    rank: int
    world_size: int
    leads: bool
    context: ContextSlice | None = None


def place_of(
    rank: int | None = None,
    world_size: int | None = None,
    *,
    mesh: DeviceMesh | None = None,
    dp_dims: Sequence[str] | None = None,
    cp_dim: str | None = None,
    cp_rank: int | None = None,
    cp_size: int | None = None,
    cp_layout: str = "zigzag",
) -> Place:
    """Return where this process stands; the arguments are those of `DataLoader`.

    Raises:
        InvalidInputError: Arguments contradict each other or leave open which lane this is.
    """
    if mesh is not None:
        if (rank, world_size, cp_rank, cp_size) != (None,) * 4:
            raise InvalidInputError("a mesh says which rank this is", hint="give mesh= or rank= and world_size=")
        return _in_mesh(mesh, dp_dims, cp_dim, cp_layout)
    if dp_dims is not None or cp_dim is not None:
        raise InvalidInputError("dp_dims and cp_dim name dimensions of a mesh", hint="give mesh= as well")
    if (cp_rank is None) != (cp_size is None):
        raise InvalidInputError("cp_rank and cp_size go together", hint="give both or neither")
    if cp_rank is None or cp_size is None:
        return Place(*(found := _rank_and_world(rank, world_size)), _leads(*found))
    if rank is None:
        # torch.distributed's rank would be another for each context-parallel rank, and so would the samples.
        raise InvalidInputError("cp_rank goes with rank", hint="give the data-parallel rank= and world_size=, or mesh=")
    found = _rank_and_world(rank, world_size)
    return Place(*found, _leads(*found) and cp_rank == 0, ContextSlice(cp_rank, cp_size, cp_layout))


def _rank_and_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return (rank, world size) from the arguments, else from torch.distributed, else (0, 1)."""
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


def _leads(rank: int, world_size: int) -> bool:
    # More processes than lanes: several have lane 0, and only torch.distributed tells them apart.
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > world_size:
        return dist.get_rank() == 0
    return rank == 0


def _in_mesh(mesh: DeviceMesh, dp_dims: Sequence[str] | None, cp_dim: str | None, cp_layout: str) -> Place:
    names, coordinate = mesh.mesh_dim_names, mesh.get_coordinate()
    if names is None:
        raise InvalidInputError(
            "the dimensions of the mesh have no names", hint="give init_device_mesh() mesh_dim_names="
        )
    if coordinate is None:
        raise InvalidInputError("this process is not in the mesh", hint="make a loader only where one is needed")
    wanted = _checked(names, dp_dims) if dp_dims is not None else _data_parallel(names)
    rank, world_size = 0, 1
    for name, size, at in zip(names, mesh.shape, coordinate, strict=True):
        if name in wanted:
            rank, world_size = rank * size + at, world_size * size
    context = None
    if cp_dim is not None:
        (name,) = _checked(names, [cp_dim])
        if name in wanted:
            raise InvalidInputError(f"{name!r} is both cp_dim and in dp_dims", hint="ranks share a sequence or do not")
        number = names.index(name)
        context = ContextSlice(coordinate[number], mesh.shape[number], cp_layout)
    # Not "all coordinates are 0": the mesh may be a part of a larger one, which has several such processes.
    return Place(rank, world_size, dist.get_rank() == 0, context)


def _checked(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    chosen = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in chosen:
        if name not in names:
            raise InvalidInputError(f"the mesh has no dimension {name!r}", hint=f"it has {', '.join(names)}")
    return chosen


def _data_parallel(names: Sequence[str]) -> tuple[str, ...]:
    """Return the data-parallel dimensions of a mesh, which must be known by their names, all of them."""
    found = tuple(name for name in names if name in _OTHER_BATCH)
    unknown = [name for name in names if name not in (*found, *_SAME_BATCH)]
    if unknown or not found:
        doubt = f"whether ranks along {unknown[0]!r} share batches" if unknown else "which dimension is data-parallel"
        raise InvalidInputError(
            f"a mesh of {', '.join(names)} does not say {doubt}",
            hint='name all dimensions along which batches differ, such as dp_dims=("dp_replicate", "dp_shard")',
        )
    return found
