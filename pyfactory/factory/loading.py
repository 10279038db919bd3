"""A training file -> a loader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyfactory.config import load_recipe, load_training
from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream

if TYPE_CHECKING:
    from pyfactory.loader.loader import DataLoader

__all__ = ["open_loader"]


def open_loader(
    training: str | Path, *, rank: int | None = None, world_size: int | None = None, require: str = ""
) -> DataLoader:
    """Return the loader that a training file describes; see configs/training.yaml.

    Args:
        training: The file.
        rank: This process; see `DataLoader`.
        world_size: Number of processes.
        require: What the data must be, such as "signed,gated"; see `Stream`.

    Raises:
        InvalidInputError: The file is not valid, or names a branch, which moves.
        NotFoundError: No such file, repository, table or version.
        RefusedError: The data is not what is required; the refusal is in the log.
    """
    from pyfactory.loader.loader import DataLoader  # here, so that importing and building never load torch

    config = load_training(training)
    recipe = load_recipe(Path(training).parent / config.recipe)
    # Like the recipe, a repository that is a relative path lies relative to the file.
    url = config.repository
    where = url if "://" in url else Path(training).parent / url
    version = Repository.open(where).version(config.table, config.version, strict=True)
    stream = Stream(
        version,
        seed=config.seed,
        sequence_length=recipe.sequence_length,
        block_size=recipe.block_size,
        window=recipe.window,
        require=require,
    )
    return DataLoader(
        stream,
        global_batch=config.global_batch,
        rank=rank,
        world_size=world_size,
        num_workers=config.num_workers,
        prefetch_factor=config.prefetch_factor,
        fields=config.fields,
    )
